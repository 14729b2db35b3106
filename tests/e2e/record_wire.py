"""`make record-wire`: sends the recorded requests to the real engine again and updates the recordings.

The stand-in's contract tests use these recordings; see tests/services/vllm/test_standin_contract.py.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.engine import request_fields
from tests.e2e.engine.serve import RealEngine

ROOT = Path(__file__).resolve().parents[2]
WIRE = ROOT / "tests/services/vllm/wire"
CONTEXT = 1024
KEPT_HEADERS = ("content-type", "vary", "transfer-encoding", "allow", "www-authenticate", "x-request-id")
FLAGS = (
    "--api-key=sekret",
    "--enable-request-id-headers",
    "--enable-prompt-tokens-details",
    "--exclude-tools-when-tool-choice-none",
)


def record(group: str, url: str) -> None:
    """Replays the requests of one file and writes the answers into it, and streamed bodies next to it."""
    file = WIRE / f"{group}.json"
    exchanges: dict[str, Any] = json.loads(file.read_text())
    with httpx.Client(base_url=url, timeout=120) as http:
        for name, exchange in exchanges.items():
            response = _send(http, exchange["request"])
            exchange["response"] = _told(response)
            if response.headers.get("content-type", "").startswith("text/event-stream"):
                (WIRE / f"{name}.sse").write_bytes(response.content)
            print(f"{group:8} {name:40} {response.status_code}")
    text = json.dumps(exchanges, indent=1, ensure_ascii=False).replace(f"{ROOT}/", "")
    file.write_text(text + "\n")


def _send(http: httpx.Client, request: dict[str, Any]) -> httpx.Response:
    body = request["body"]
    content = body if isinstance(body, str) or body is None else json.dumps(body)
    return http.request(request["method"], request["path"], content=content, headers=request["headers"])


def _told(response: httpx.Response) -> dict[str, Any]:
    is_json = response.headers.get("content-type", "").startswith("application/json")
    return {
        "status": response.status_code,
        "headers": {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers},
        "body": response.json() if is_json else None,
    }


def main() -> None:
    python = ROOT / ".venv-vllm/bin/python"
    request_fields.record(python)
    with tempfile.TemporaryDirectory() as folder:
        for flags, groups in (((), ("errors", "answers", "streams")), (FLAGS, ("flags",))):
            engine = RealEngine(python, Path(folder) / "engine.log", flags=flags, context=CONTEXT)
            engine.start()
            try:
                for group in groups:
                    record(group, engine.url)
            finally:
                engine.stop()


if __name__ == "__main__":
    main()
