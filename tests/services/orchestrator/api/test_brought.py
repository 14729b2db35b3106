"""MCP servers that a request brings, through the Responses API with a scripted engine and server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.support.live import Live, events_of, live
from tests.support.openai_types import check, check_response_events
from tests.support.scripted_engine import ScriptedEngine, call, call_deltas, stream, text, whole
from tests.support.scripted_mcp import Call, ScriptedMcp, scripted_mcp, tool

KEY = "k" * 32


@pytest.fixture
async def peer() -> AsyncIterator[ScriptedMcp]:
    async with scripted_mcp() as one:
        yield one


@pytest.fixture
async def open_server(engine: ScriptedEngine, peer: ScriptedMcp) -> AsyncIterator[Live]:
    """A server whose operator allows the peer."""
    async with live(engine.url, MCP_REQUEST_SERVERS=f"http://127.0.0.1:{peer.port}") as server:
        yield server


def entry(peer: ScriptedMcp, **fields: Any) -> dict[str, Any]:
    given = {"type": "mcp", "server_label": "docs", "server_url": peer.url, "require_approval": "never"}
    return {**given, **fields}


async def ask(server: Live, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    payload = {"model": "scripted", "input": "Hi", **fields}
    return await server.http.post("/v1/responses", json=payload, headers=headers)


@pytest.mark.parametrize("streaming", [False, True])
async def test_tools_are_listed_and_called(
    open_server: Live, engine: ScriptedEngine, peer: ScriptedMcp, streaming: bool
) -> None:
    peer.needs = ("authorization", "Bearer secret-1")
    peer.tools = [tool("echo"), tool("other")]
    arguments = '{"text": "hi"}'
    if streaming:
        engine.play(stream(*call_deltas("docs__echo", arguments)), stream(*text("It says hi.")))
    else:
        engine.play(whole(calls=[call("docs__echo", arguments)]), whole("It says hi."))
    tools = [entry(peer, headers={"Authorization": "Bearer secret-1"}, allowed_tools=["echo"])]
    answer = await ask(open_server, tools=tools, stream=streaming)
    assert answer.status_code == 200, answer.text
    assert "secret-1" not in answer.text
    if streaming:
        seen = [event for event in events_of(answer.text) if isinstance(event, dict)]
        kinds = check_response_events(seen)
        assert "response.mcp_list_tools.completed" in kinds
        assert "response.mcp_call.completed" in kinds
        response = seen[-1]["response"]
    else:
        response = answer.json()
        check(response)
    listing, called, message = response["output"]
    assert (listing["server_label"], [one["name"] for one in listing["tools"]]) == ("docs", ["echo"])
    assert (called["server_label"], called["name"], called["output"]) == ("docs", "echo", "hi")
    assert message["content"][0]["text"] == "It says hi."
    assert [one["function"]["name"] for one in engine.requests[0].json["tools"]] == ["docs__echo"]


async def test_tools_belong_to_one_request(
    open_server: Live, engine: ScriptedEngine, peer: ScriptedMcp
) -> None:
    engine.play(whole("Hello."), whole("Hello."))
    assert (await ask(open_server, tools=[entry(peer)])).status_code == 200
    listed = (await open_server.http.get("/v1/tools")).json()
    assert "docs__echo" not in str(listed)
    answer = await open_server.chat(tools=[{"type": "function", "function": {"name": "docs__echo"}}])
    assert answer.status_code == 200
    assert len(peer.of("tools/list")) == 1


async def test_approval_is_needed_by_default(
    open_server: Live, engine: ScriptedEngine, peer: ScriptedMcp
) -> None:
    engine.play(whole(calls=[call("docs__echo", {"text": "hi"})]), whole("Done."))
    tools = [entry(peer, require_approval=None)]
    output = (await ask(open_server, tools=tools)).json()["output"]
    assert [item["type"] for item in output] == ["mcp_list_tools", "mcp_approval_request"]
    assert peer.of("tools/call") == []
    approval = {"type": "mcp_approval_response", "approval_request_id": output[1]["id"], "approve": True}
    given = [{"role": "user", "content": "Hi"}, *output, approval]
    answer = (await ask(open_server, tools=tools, input=given)).json()
    check(answer)
    assert [item["type"] for item in answer["output"]] == ["mcp_call", "message"]
    assert answer["output"][0]["output"] == "hi"


async def test_metrics_have_no_names_that_clients_choose(
    open_server: Live, engine: ScriptedEngine, peer: ScriptedMcp
) -> None:
    engine.play(whole(calls=[call("docs__echo", {"text": "hi"})]), whole("Done."))
    await ask(open_server, tools=[entry(peer)])
    metrics = await open_server.metrics()
    assert 'tool_calls_total{outcome="ok",tool_name="(of a request)"} 1.0' in metrics
    assert "docs" not in metrics


async def test_failed_call_is_an_item_with_an_error(
    open_server: Live, engine: ScriptedEngine, peer: ScriptedMcp
) -> None:
    async def fail(one: Call) -> None:
        await one.result({"content": [{"type": "text", "text": "no such page"}], "isError": True})

    peer.on_call = fail
    engine.play(whole(calls=[call("docs__echo", {"text": "hi"})]), whole("Sorry."))
    response = (await ask(open_server, tools=[entry(peer)])).json()
    check(response)
    called = response["output"][1]
    assert called["status"] == "failed"
    assert "no such page" in called["error"]["content"][0]["text"]


async def test_request_without_leave_gets_a_clear_error(
    server: Live, engine: ScriptedEngine, peer: ScriptedMcp
) -> None:
    answer = await ask(server, tools=[entry(peer)])
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "mcp_server_not_allowed")
    assert error["param"] == "tools[0].server_url"
    assert (engine.requests, peer.requests) == ([], [])


async def test_tools_of_the_request_may_be_left_to_the_engine(
    server: Live, engine: ScriptedEngine, peer: ScriptedMcp
) -> None:
    """Engines may have MCP servers of their own."""
    engine.play(whole("Hello."))
    await ask(server, headers={"x-tool-execution": "client"}, tools=[entry(peer)])
    assert engine.requests[0].path == "/v1/responses"
    assert peer.requests == []


async def test_server_that_fails_is_a_failed_dependency(open_server: Live, peer: ScriptedMcp) -> None:
    peer.needs = ("authorization", "Bearer other")
    answer = await ask(open_server, tools=[entry(peer)], stream=True)
    assert answer.status_code == 424
    assert answer.json()["error"]["code"] == "mcp_server_unavailable"


async def test_key_for_some_tools_brings_no_servers(
    engine: ScriptedEngine, peer: ScriptedMcp, tmp_path: Path
) -> None:
    digest = sha256(KEY.encode()).hexdigest()
    (tmp_path / "keys").write_text(json.dumps({"team": {"sha256": digest, "tools": ["docs__echo"]}}))
    allowed, file = f"http://127.0.0.1:{peer.port}", str(tmp_path / "keys")
    async with live(engine.url, MCP_REQUEST_SERVERS=allowed, API_KEYS_FILE=file) as server:
        answer = await ask(server, headers={"authorization": f"Bearer {KEY}"}, tools=[entry(peer)])
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "tool_not_permitted")
    assert peer.requests == []


async def test_number_of_servers_is_limited(open_server: Live, peer: ScriptedMcp) -> None:
    tools = [entry(peer, server_label=f"docs{number}") for number in range(5)]
    answer = await ask(open_server, tools=tools)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools[4]")
    answer = await ask(open_server, tools=[entry(peer), entry(peer)])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools[1]")
    assert peer.requests == []


async def test_size_of_the_descriptions_is_limited(open_server: Live, peer: ScriptedMcp) -> None:
    schema = {"type": "object", "description": "x" * 50_000}
    peer.tools = [{**tool(f"echo{number}"), "inputSchema": schema} for number in range(40)]
    answer = await ask(open_server, tools=[entry(peer)])
    assert answer.status_code == 400
    assert "bytes" in answer.json()["error"]["message"]


async def test_configured_server_of_the_same_name_is_meant(engine: ScriptedEngine, peer: ScriptedMcp) -> None:
    """A request cannot put its own server in the place of a configured one, even while that is down."""
    async with scripted_mcp() as configured:
        port = configured.port
    listed = f'[{{"name": "docs", "url": "http://127.0.0.1:{port}/mcp"}}]'
    allowed = f"http://127.0.0.1:{peer.port}"
    async with live(engine.url, MCP_SERVERS=listed, MCP_REQUEST_SERVERS=allowed) as server:
        answer = await ask(server, tools=[entry(peer)])
    assert (answer.status_code, answer.json()["error"]["code"]) == (424, "mcp_server_unavailable")
    assert peer.requests == []
