"""A stand-in engine that speaks vLLM's API without a model. standin.py starts it."""
