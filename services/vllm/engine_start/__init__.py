"""Starts vLLM: settings, weights, caches, and what a start took."""
