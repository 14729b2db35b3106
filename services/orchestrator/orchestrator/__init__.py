"""The orchestrator: an OpenAI-compatible API that runs the tools that the model calls."""

__version__ = "0.1.0"  # Tandem's one version; CHANGELOG.md and docs/release.md name it too.
