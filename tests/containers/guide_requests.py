"""The requests of the user's guide to a compose project, as written there except for the address.

The engine is not published, so the guide's request to port 8000 goes to the engine's own address.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.support.containers.compose import Compose
from tests.support.guide import CHAT, at, block, log_messages, metric_names, own_tool, python, said, shell
from tests.support.metrics import total

from .conftest import MODEL

_SECONDS = 120.0
"""The real vLLM on two busy cores takes its time."""

_KEY = "a-key-of-the-guides-reader"


def step_4_messages_to_wait_for(project: Compose) -> None:
    log = project("logs", "--no-color", "orchestrator")
    for message in log_messages():
        assert message in log


def step_4_services_are_up(project: Compose) -> None:
    script = block("Verify Services (from Your Local Machine)")
    engine = project.container("vllm").address(project.network)
    assert "${AWS_IP}:8000/health" in script
    printed = shell(at(script, project.url).replace("${AWS_IP}:8000", f"{engine}:8000"), seconds=_SECONDS)
    assert [model["id"] for model in json.loads(printed)["data"]] == [MODEL]


def step_5_weather_by_curl(project: Compose) -> None:
    script = at(block("Weather Tool Example"), project.url)
    answer, calls = _with_calls(project, "get_current_weather", lambda: shell(script, seconds=_SECONDS))
    assert calls >= 1, answer
    if project.repeats_results:
        assert calls == 1
        assert "San Francisco" in said(answer)
        assert "14.6 °C" in said(answer)


def step_5_calculator_by_curl(project: Compose) -> None:
    assert "56088" in said(shell(at(block("Calculator Tool Example"), project.url), seconds=_SECONDS))


def step_5_python_sdk(project: Compose) -> None:
    program = at(block("Python SDK Example (from Your Mac)"), project.url, "54.123.45.67")
    printed, calls = _with_calls(project, "get_current_weather", lambda: python(program, seconds=_SECONDS))
    if project.repeats_results:  # the tiny model does not know the phrase "What's"
        assert calls == 1
        assert "15.4 °C" in printed


def step_6_database_tool_is_there(project: Compose) -> None:
    tools = httpx.get(f"{project.url}/v1/tools", timeout=_SECONDS).json()
    assert "query_database" in [tool["function"]["name"] for tool in tools]


def step_7_metrics(project: Compose) -> None:
    counter, label, histogram = metric_names()

    def counts() -> list[float]:
        return [
            total(project.url, counter, **{label: "calculate_math"}),
            total(project.url, f"{histogram}_count", route=CHAT),
        ]

    before = counts()
    shell(at(block("Calculator Tool Example"), project.url), seconds=_SECONDS)
    assert counts() == [count + 1 for count in before]


def step_7_key(project: Compose) -> None:
    assert 'alias="X-API-Key"' in block("Security")
    project.up("orchestrator", BOOTSTRAP_API_KEY=_KEY)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    statuses = [
        httpx.post(f"{project.url}{CHAT}", json=body, headers=headers, timeout=_SECONDS).status_code
        for headers in ({}, {"X-API-Key": "another-key-than-that"}, {"X-API-Key": _KEY})
    ]
    assert statuses == [401, 401, 200]


STEPS = (
    step_4_messages_to_wait_for,
    step_4_services_are_up,
    step_5_weather_by_curl,
    step_5_calculator_by_curl,
    step_5_python_sdk,
    step_6_database_tool_is_there,
    step_7_metrics,
    step_7_key,
)
"""What every engine answers. The last step leaves a key behind."""


def own_tool_after_a_rebuild(project: Compose, directory: Path) -> None:
    """Step 6: the guide's function, under a name that is free, is asked for once it is in a directory."""
    (directory / "our_tools.py").write_text(own_tool().replace("query_database", "query_archive"))
    directory.chmod(0o755)
    project.up("orchestrator", TOOL_MODULES="our_tools", TOOLS_DIRECTORY=str(directory))
    body = {
        "messages": [{"role": "user", "content": "Query the archive: table orders, filter by year"}],
        "tools": [{"type": "function", "function": {"name": "query_archive"}}],
    }
    answer = httpx.post(f"{project.url}{CHAT}", json=body, timeout=_SECONDS)
    assert "Query results from orders: [sample data]" in said(answer.text)


def _with_calls(project: Compose, tool: str, ask: Callable[[], str]) -> tuple[str, float]:
    """Returns an answer, and how often the orchestrator ran this tool for it."""
    before = total(project.url, "tool_calls_total", tool_name=tool, outcome="ok")
    answer = ask()
    return answer, total(project.url, "tool_calls_total", tool_name=tool, outcome="ok") - before
