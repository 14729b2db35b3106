"""The service with servers of the official SDK, over HTTP and over standard streams, through chat."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.tools.mcp import servers as servers_module
from orchestrator.tools.toolbox import Toolbox, ToolResult
from tests.support.live import Live, live, until
from tests.support.processes import ROOT, Processes, Service
from tests.support.scripted_engine import ScriptedEngine, call, scripted_engine, whole

REFERENCE = "tests.support.mcp_reference"


@pytest.fixture(scope="module")
def reference() -> Iterator[Service]:
    with Processes() as processes:
        yield processes.mcp_reference()


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    async with scripted_engine() as one:
        yield one


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers_module, "_START_SECONDS", 50.0)  # a busy machine starts programs slowly


def over_stdio() -> dict[str, Any]:
    return {
        "name": "ref",
        "command": [sys.executable, "-m", REFERENCE],
        "environment": {"PYTHONPATH": str(ROOT)},
    }


def over_http(service: Service) -> dict[str, Any]:
    return {"name": "ref", "url": f"{service.url}/mcp", "headers": {"X-Team": "a"}}


def servers(*them: dict[str, Any]) -> dict[str, str]:
    return {"MCP_SERVERS": json.dumps(them), "PATH": "/usr/bin:/bin"}


@pytest.fixture(params=["http", "stdio"])
async def orchestrator(
    request: pytest.FixtureRequest, engine: ScriptedEngine, reference: Service
) -> AsyncIterator[Live]:
    one = over_http(reference) if request.param == "http" else over_stdio()
    async with live(engine.url, **servers(one)) as service:
        yield service


def toolbox_of(service: Live) -> Toolbox:
    return service.app._toolbox


async def run(service: Live, name: str, **arguments: Any) -> ToolResult:
    return await toolbox_of(service).call(f"ref__{name}", json.dumps(arguments), request_id="r1")


async def test_tool_of_a_server_runs_in_a_chat(orchestrator: Live, engine: ScriptedEngine) -> None:
    listed = {
        tool["function"]["name"]: tool["server"] for tool in (await orchestrator.http.get("/v1/tools")).json()
    }
    assert listed["ref__add"] == "ref"
    assert listed["calculate_math"] is None
    engine.play(whole(calls=[call("ref__add", {"a": 2, "b": 40})]), whole("42"))
    answer = await orchestrator.chat(tools=[{"type": "function", "function": {"name": "ref__add"}}])
    assert answer.json()["choices"][0]["message"]["content"] == "42"
    first, second = engine.requests
    assert first.json["tools"][0]["function"]["parameters"]["required"] == ["a", "b"]
    assert json.loads(second.json["messages"][-1]["content"]) == {"total": 42, "parts": [2, 40]}


async def test_results_of_the_official_sdk(orchestrator: Live) -> None:
    assert (await run(orchestrator, "shout", text="hi")).content == '{"result":"HI"}'
    failed = await run(orchestrator, "fail", reason="no luck")
    assert failed.outcome == "error"
    assert "no luck" in failed.content
    assert (await run(orchestrator, "route", region="eu-1")).content == '{"result":"eu-1"}'
    invalid = await run(orchestrator, "add", a="x", b=1)
    assert invalid.outcome == "error"
    assert "valid integer" in invalid.content
    assert "left out: the model takes no images" in (await run(orchestrator, "picture")).content
    assert (await run(orchestrator, "slow", steps=2, seconds=0.01)).content == '{"result":"done"}'


async def test_readiness_and_metrics_name_each_server(orchestrator: Live) -> None:
    await run(orchestrator, "shout", text="hi")
    ready = (await orchestrator.http.get("/ready")).json()["mcp_servers"]["ref"]
    assert ready == {"up": True, "tools": 9, "version": "2026-07-28"}
    metrics = await orchestrator.metrics()
    for sample in (
        'mcp_server_up{server="ref"} 1.0', 'mcp_server_tools{server="ref"} 9.0',
        'mcp_calls_total{outcome="ok",server="ref"} 1.0',
    ):  # fmt: skip
        assert f"{sample}\n" in metrics


async def test_cancelled_call_ends_at_the_server(orchestrator: Live, tmp_path: Path) -> None:
    started, cancelled = tmp_path / "started", tmp_path / "cancelled"
    running = asyncio.create_task(run(orchestrator, "wait", started=str(started), cancelled=str(cancelled)))
    await until(started.exists)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(cancelled.exists)


async def test_headers_and_the_trace_reach_the_server(engine: ScriptedEngine, reference: Service) -> None:
    async with live(engine.url, **servers(over_http(reference))) as service:
        found = json.loads((await run(service, "headers")).content)
    assert found["x-team"] == "a"
    assert found["x-request-id"] == "r1"
    assert found["mcp-protocol-version"] == "2026-07-28"


async def test_tool_is_renamed_while_the_service_runs(engine: ScriptedEngine) -> None:
    async with live(engine.url, **servers(over_stdio())) as service:
        toolbox = toolbox_of(service)
        assert "ref__shout" in toolbox
        await run(service, "rename")
        await until(lambda: "ref__whisper" in toolbox and "ref__shout" not in toolbox)


async def test_server_restarts_while_the_service_runs(engine: ScriptedEngine) -> None:
    with Processes() as processes:
        first = processes.mcp_reference()
        port = int(first.url.rpartition(":")[2])
        async with live(engine.url, **servers(over_http(first))) as service:
            assert (await run(service, "shout", text="a")).outcome == "ok"
            processes.services.remove(first)
            first.terminate()
            first.ended()
            assert (await run(service, "shout", text="b")).outcome == "error"
            processes.mcp_reference(port)
            toolbox = toolbox_of(service)
            await until(lambda: "ref__shout" in toolbox)
            assert (await run(service, "shout", text="c")).outcome == "ok"


async def test_model_that_takes_images_sees_them(engine: ScriptedEngine, reference: Service) -> None:
    async with live(engine.url, MODEL_TAKES_IMAGES="true", **servers(over_http(reference))) as service:
        engine.play(whole(calls=[call("ref__picture", {})]), whole("a pixel"))
        await service.chat(tools=[{"type": "function", "function": {"name": "ref__picture"}}])
    shown = engine.requests[1].json["messages"][-1]
    assert shown["role"] == "user"
    assert shown["content"][1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")


async def test_service_starts_without_its_servers(engine: ScriptedEngine) -> None:
    missing = {"name": "gone", "command": ["/nowhere/program"]}
    closed = {"name": "closed", "url": "http://127.0.0.1:9/mcp"}
    async with live(engine.url, ATTACH_TOOLS="gone__x", **servers(missing, closed)) as service:
        ready = (await service.http.get("/ready")).json()["mcp_servers"]
        assert ready["gone"]["reason"] == "/nowhere/program cannot be started: No such file or directory"
        assert ready["closed"]["reason"].startswith("the server cannot be reached")
        engine.play(whole("hello"))
        assert (await service.chat()).status_code == 200
        assert "tools" not in engine.requests[0].json
