"""schemathesis sends requests that it generates from the OpenAPI description, for a minute.

They are the same in each run, so that a change does not fail for another's fault: SCHEMATHESIS_SEED=N sends
others.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import MODEL, Processes, Service

SECONDS = int(os.environ.get("SCHEMATHESIS_SECONDS", "60"))
SEED = os.environ.get("SCHEMATHESIS_SEED", "20261126")
CHECKS = ",".join(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    ]
)
LIMIT = SECONDS + 120
CHAT = "/v1/chat/completions"
Json = dict[str, Any]


@pytest.fixture
def tandem() -> Iterator[Service]:
    with Processes() as processes:
        standin = processes.standin("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
        service = processes.orchestrator(standin.url)
        until = time.monotonic() + 30
        while httpx.get(f"{service.url}/ready").status_code != 200 and time.monotonic() < until:
            pass
        yield service


@pytest.mark.timeout(LIMIT)
def test_generated_requests_get_documented_answers(tandem: Service, tmp_path: Path) -> None:
    _run(tandem, tmp_path, _description(tandem), seconds=SECONDS // 2)
    assert _sum(tandem, 'requests_total{[^}]*route="/v1/chat/completions",status="400"') > 0


@pytest.mark.timeout(LIMIT)
def test_generated_requests_reach_the_tools(tandem: Service, tmp_path: Path) -> None:
    described = _description(tandem)
    described["paths"] = {CHAT: described["paths"][CHAT]}
    post = described["paths"][CHAT]["post"]
    post["parameters"] = []  # with `X-Tool-Execution: client`, the server runs no tools
    body = post["requestBody"]["content"]["application/json"]["schema"]
    kept = ("model", "messages", "tools", "tool_choice", "parallel_tool_calls", "stream", "tandem")
    body |= {"properties": {name: body["properties"][name] for name in kept}, "additionalProperties": False}
    body["required"] += ["tools", "tool_choice"]
    body["properties"]["tools"]["minItems"] = 1
    body["properties"]["tool_choice"] = {"enum": ["auto", "required"]}
    function = body["properties"]["tools"]["items"]["properties"]["function"]
    function["properties"]["name"] = function["properties"]["name"]["anyOf"][0]  # the server's
    message = {"role": {"const": "user"}, "content": {"type": "string"}}
    body["properties"]["messages"]["items"] |= {
        "properties": message,
        "required": list(message),
        "additionalProperties": False,
    }
    _run(tandem, tmp_path, described, "--mode", "positive", seconds=SECONDS // 2)
    answered = _sum(tandem, 'requests_total{[^}]*route="/v1/chat/completions",status="200"')
    ran = _sum(tandem, "tool_calls_total{")
    assert answered > 10, f"only {answered:g} requests were valid"
    assert ran > 5, f"only {ran:g} calls of tools"


def _description(tandem: Service) -> Json:
    described: Json = httpx.get(f"{tandem.url}/openapi.json").json()
    for item in described["paths"].values():  # a random name of a model reaches nothing
        body = item.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        if "model" in body.get("schema", {}).get("properties", {}):
            body["schema"]["properties"]["model"] = {"const": MODEL}
    return described


def _run(tandem: Service, folder: Path, described: Json, *options: str, seconds: int) -> None:
    """Uses one worker: `ast.parse`, which Hypothesis calls, fails in two threads of Python 3.11.7 at once."""
    schema = folder / "openapi.json"
    schema.write_text(json.dumps(described))
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", str(schema), "--url", tandem.url,
            "--max-time", str(seconds), "--max-examples", "100000", "--phases", "examples,coverage,fuzzing",
            "--checks", CHECKS, "--workers", "1", "--suppress-health-check", "all", "--no-color",
            "--generation-database", "none", "--seed", SEED, "--warnings", "off", *options,
        ],
        cwd=folder, capture_output=True, text=True, check=False, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout


def _sum(tandem: Service, pattern: str) -> float:
    lines = httpx.get(f"{tandem.url}/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(pattern, line))
