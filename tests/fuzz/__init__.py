"""Fuzzing: generated and mutated input for a running orchestrator and for the deployment file."""
