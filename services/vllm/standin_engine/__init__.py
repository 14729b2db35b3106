"""A stand-in engine: speaks vLLM's API without a model. Started by standin.py."""
