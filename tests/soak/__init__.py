"""Many requests of every kind while engines are killed and an orchestrator is restarted; `make soak`."""
