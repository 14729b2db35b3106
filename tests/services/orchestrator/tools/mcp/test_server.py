"""One MCP server over a real connection: what it lists, what its calls return, and how it fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.tools.mcp import server
from tests.services.orchestrator.tools.asking import call, error_of
from tests.services.orchestrator.tools.mcp.watched import watched
from tests.support.live import until
from tests.support.scripted_mcp import Call, ScriptedMcp, tool


async def test_tools_are_listed_and_called(peer: ScriptedMcp) -> None:
    async with watched(peer) as one:
        assert one.server.state.up
        assert one.server.state.version == ("2026-07-28" if peer.modern else "2025-06-18")
        assert one.names == {"files__echo"}
        result = await one.toolbox.call(
            "files__echo", '{"text": "hi"}', request_id="r7", traceparent="00-a-b-01", tracestate="k=v"
        )
        assert (result.content, result.outcome) == ("hi", "ok")
        assert one.calls == [("files", "ok")]
        asked = peer.of("tools/call")[0]
        meta = asked.json["params"]["_meta"]
        assert (meta["traceparent"], meta["tracestate"], meta["x-request-id"]) == ("00-a-b-01", "k=v", "r7")
        assert asked.headers["traceparent"] == "00-a-b-01"
        assert asked.headers["x-request-id"] == "r7"
        if peer.modern:
            assert asked.headers["mcp-protocol-version"] == "2026-07-28"
            assert (asked.headers["mcp-method"], asked.headers["mcp-name"]) == ("tools/call", "echo")
            assert meta["io.modelcontextprotocol/clientCapabilities"] == {}
        else:
            assert asked.headers["mcp-session-id"] == "session-1"


async def test_requests_never_list_tools(peer: ScriptedMcp) -> None:
    async with watched(peer) as one:
        for _ in range(5):
            await call(one.toolbox, "files__echo", text="x")
        assert len(peer.of("tools/list")) == 1


async def test_calls_run_in_parallel_and_keep_their_connections(peer: ScriptedMcp) -> None:
    together = asyncio.Barrier(3)

    async def meet(one: Call) -> None:
        await together.wait()
        await one.text("met")

    async with watched(peer) as one:
        peer.on_call = meet
        async with asyncio.timeout(5):
            results = await asyncio.gather(*[call(one.toolbox, "files__echo", text="x") for _ in range(3)])
        assert [result.content for result in results] == ["met"] * 3


async def test_call_that_hangs_is_cancelled_at_the_server(peer: ScriptedMcp) -> None:
    left: list[Call] = []

    async def hang(one: Call) -> None:
        await one.left.wait()
        left.append(one)

    async with watched(peer, seconds=0.2) as one:
        peer.on_call = hang
        result = await call(one.toolbox, "files__echo", text="x")
        assert result.outcome == "timeout"
        assert error_of(result) == "echo took longer than 0.2 s and was cancelled"
        await until(lambda: bool(left))
        if not peer.modern:
            await until(lambda: bool(peer.of("notifications/cancelled")))
            cancelled = peer.of("notifications/cancelled")[0].json["params"]
            assert cancelled["requestId"] == peer.of("tools/call")[0].json["id"]
        assert one.calls == [("files", "timeout")]


async def test_call_of_a_client_that_leaves_is_cancelled_at_the_server(peer: ScriptedMcp) -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    async def hang(one: Call) -> None:
        arrived.set()
        await one.left.wait()
        left.set()

    async with watched(peer) as one:
        peer.on_call = hang
        running = asyncio.create_task(call(one.toolbox, "files__echo", text="x"))
        await arrived.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        async with asyncio.timeout(5):
            await left.wait()
        assert one.calls == [("files", "cancelled")]


async def test_progress_extends_the_time_limit(peer: ScriptedMcp) -> None:
    async def progress(one: Call) -> None:
        token = one.message["params"]["_meta"]["progressToken"]
        await one.stream()
        for step in range(6):
            await asyncio.sleep(0.1)  # together longer than the limit
            params = {"progressToken": token, "progress": step}
            await one.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        result = {"content": [{"type": "text", "text": "done"}]}
        await one.event({"jsonrpc": "2.0", "id": one.message["id"], "result": result})

    async with watched(peer, seconds=0.4) as one:
        peer.on_call = progress
        assert (await call(one.toolbox, "files__echo", text="x")).content == "done"


async def test_session_that_the_server_forgot_is_started_again_and_the_call_repeated(
    legacy: ScriptedMcp,
) -> None:
    async with watched(legacy) as one:
        for status in (404, 400):
            legacy.lost_status = status
            legacy.sessions.clear()
            results = await asyncio.gather(*[call(one.toolbox, "files__echo", text="x") for _ in range(3)])
            assert [result.content for result in results] == ["x"] * 3
        assert legacy.started == 3


async def test_server_that_forgets_every_session_ends_in_an_error(legacy: ScriptedMcp) -> None:
    async with watched(legacy) as one:

        async def forget(one: Call) -> None:
            await one.answer(404, b"")

        legacy.on_call = forget
        result = await call(one.toolbox, "files__echo", text="x")
        assert "does not know the session any longer" in error_of(result)
        assert len(legacy.of("tools/call")) == 2


async def test_server_that_restarts_loses_its_tools_and_gets_them_back(
    peer: ScriptedMcp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_CHANGES_AT_MOST_EVERY", 0.01)
    monkeypatch.setattr(server, "_FIRST_RETRY_SECONDS", 0.02)
    async with watched(peer) as one:
        port = peer.port
        await peer.stop()
        result = await call(one.toolbox, "files__echo", text="x")
        assert "the call of the MCP server files failed: the server cannot be reached" in error_of(result)
        await until(lambda: not one.names)
        assert not one.server.state.up
        assert "an MCP server is down" in caplog.text
        await peer.start(port)
        await until(lambda: one.names == {"files__echo"})
        assert (await call(one.toolbox, "files__echo", text="again")).content == "again"


async def test_server_that_is_down_at_first_is_found_later(
    modern: ScriptedMcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_CHANGES_AT_MOST_EVERY", 0.01)
    monkeypatch.setattr(server, "_FIRST_RETRY_SECONDS", 0.02)
    port = modern.port
    await modern.stop()
    async with watched(modern) as one:
        assert one.server.state.reason.startswith("the server cannot be reached")
        await modern.start(port)
        await until(lambda: one.server.state.up)


async def test_tools_that_are_renamed_while_running_are_followed(
    peer: ScriptedMcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_CHANGES_AT_MOST_EVERY", 0.01)
    async with watched(peer) as one:
        await until(lambda: bool(peer.listeners))
        peer.tools = [tool("renamed")]
        await peer.announce()
        await until(lambda: one.names == {"files__renamed"})


async def test_tool_that_was_renamed_silently_is_found_after_a_failed_call(
    peer: ScriptedMcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_CHANGES_AT_MOST_EVERY", 0.01)

    async def unknown(one: Call) -> None:
        await one.error(-32602, "Unknown tool: echo")

    async with watched(peer) as one:
        peer.tools, peer.on_call = [tool("renamed")], unknown
        result = await call(one.toolbox, "files__echo", text="x")
        assert error_of(result) == "the MCP server files rejected the call: Unknown tool: echo"
        await until(lambda: one.names == {"files__renamed"})


async def test_list_is_refreshed_after_the_time_that_the_server_gives(
    peer: ScriptedMcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_REFRESH_AT_LEAST", 0.01)
    monkeypatch.setattr(server, "_CHANGES_AT_MOST_EVERY", 0.01)
    peer.listing = {"ttlMs": 20}
    async with watched(peer) as one:
        peer.tools = [tool("later")]
        await until(lambda: one.names == {"files__later"})


async def test_all_pages_of_a_list_are_read(peer: ScriptedMcp) -> None:
    pages: dict[Any, Any] = {
        None: {"tools": [tool("a")], "nextCursor": "2"},
        "2": {"tools": [tool("b")], "nextCursor": None},
    }

    async def page(one: Call) -> None:
        await one.result(pages[one.message.get("params", {}).get("cursor")])

    peer.on["tools/list"] = page
    if not peer.modern:
        await peer.stop()
        await peer.start()
    async with watched(peer) as one:
        assert one.names == {"files__a", "files__b"}


async def test_pages_without_an_end_are_bounded(modern: ScriptedMcp) -> None:
    async def page(one: Call) -> None:
        await one.result({"tools": [tool(f"t{len(modern.requests)}")], "nextCursor": "more"})

    modern.on["tools/list"] = page
    async with watched(modern) as one:
        assert len(one.names) == 100


async def test_server_needs_a_header(peer: ScriptedMcp) -> None:
    peer.needs = ("authorization", "Bearer secret-1")
    async with watched(peer) as one:
        assert one.server.state.reason == "the server rejects the credentials (HTTP status 401)"
    async with watched(peer, headers={"Authorization": "Bearer secret-1"}) as one:
        assert (await call(one.toolbox, "files__echo", text="x")).content == "x"


@pytest.mark.parametrize(
    "listed",
    [5, "x", {"a": 1}, None],
)
async def test_server_that_lies_about_its_list_is_down(peer: ScriptedMcp, listed: Any) -> None:
    peer.tools = listed
    async with watched(peer) as one:
        assert one.server.state.reason == "the server's list of tools is not a list"


async def test_input_that_a_server_requires_is_an_error(modern: ScriptedMcp) -> None:
    async def ask(one: Call) -> None:
        await one.result({"resultType": "input_required", "requestState": "abc", "inputRequests": {}})

    async with watched(modern) as one:
        modern.on_call = ask
        result = await call(one.toolbox, "files__echo", text="x")
        assert "files__echo asks the user for input" in error_of(result)


async def test_requests_of_a_server_are_answered(legacy: ScriptedMcp) -> None:
    async def ask(one: Call) -> None:
        await one.stream()
        await one.event({"jsonrpc": "2.0", "id": "s1", "method": "ping"})
        await one.event({"jsonrpc": "2.0", "id": "s2", "method": "sampling/createMessage", "params": {}})
        result = {"content": [{"type": "text", "text": "ok"}]}
        await one.event({"jsonrpc": "2.0", "id": one.message["id"], "result": result})

    async with watched(legacy) as one:
        legacy.on_call = ask
        assert (await call(one.toolbox, "files__echo", text="x")).content == "ok"
        await until(lambda: legacy.messages.count("answer") == 2)
        answers = {
            request.json["id"]: request.json
            for request in legacy.requests
            if request.method == "POST" and "method" not in request.json
        }
        assert answers["s1"]["result"] == {}
        assert answers["s2"]["error"]["code"] == -32601


async def test_only_allowed_tools_are_offered(peer: ScriptedMcp) -> None:
    peer.tools = [tool("a"), tool("b")]
    async with watched(peer, allowed=frozenset({"b", "c"})) as one:
        assert one.names == {"files__b"}
        assert one.server.state.left_out == ("the server has no tool c",)
