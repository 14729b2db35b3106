"""The connections to an MCP server, when it does not behave."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.memory import Budget
from orchestrator.tools.mcp import http
from tests.services.orchestrator.tools.asking import call, error_of
from tests.services.orchestrator.tools.mcp.watched import watched
from tests.support.scripted_mcp import Call, ScriptedMcp


async def test_answer_of_100_mb_is_cut(peer: ScriptedMcp) -> None:
    sent = 0

    async def flood(one: Call) -> None:
        nonlocal sent
        await one.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n"
        )
        while sent < 100_000_000 and not one.left.is_set():
            await one.send(b" " * 1_000_000)
            sent += 1_000_000

    async with watched(peer) as one:
        peer.on_call = flood
        result = await call(one.toolbox, "files__echo", text="x")
        assert "the server's answer has more than 8,388,608 bytes" in error_of(result)
        assert sent < 30_000_000


async def test_event_of_100_mb_is_cut(peer: ScriptedMcp) -> None:
    async def flood(one: Call) -> None:
        await one.stream()
        await one.send(b"data: ")
        for _ in range(100):
            await one.send(b" " * 1_000_000)

    async with watched(peer) as one:
        peer.on_call = flood
        result = await call(one.toolbox, "files__echo", text="x")
        assert "the server's answer has more than 8,388,608 bytes" in error_of(result)


async def test_answer_beyond_the_memory_of_all_requests_is_an_error(peer: ScriptedMcp) -> None:
    async def large(one: Call) -> None:
        await one.text("x" * 2_000_000)

    budget = Budget(1_000_000)
    async with watched(peer, budget=budget) as one:
        peer.on_call = large
        result = await call(one.toolbox, "files__echo", text="x")
        assert "does not fit into the memory of all requests" in error_of(result)
        assert budget.used == 0


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"<html>", "application/json", "the server sent something that is not JSON"),
        (b"[]", "application/json", "a JSON value that is not an object"),
        (b'{"jsonrpc": "2.0", "id": 1, "result": 5}', "application/json", "a result that is not an object"),
        (b'{"jsonrpc": "2.0", "id": 1, "error": 5}', "application/json", "an error without a message"),
        (b"data: {}\n\ndata: 5\n\n", "text/event-stream", "a JSON value that is not an object"),
        (b": nothing\n\n", "text/event-stream", "ended its stream of events without an answer"),
        (b'{"result": {"content": 5}}', "application/json", "in a form that is not understood"),
        (b'{"result": {}}', "application/json", "in a form that is not understood"),
    ],
)
async def test_server_that_lies_about_its_answer(
    peer: ScriptedMcp, body: bytes, kind: str, message: str
) -> None:
    async def lie(one: Call) -> None:
        await one.answer(200, body, kind=kind)

    async with watched(peer) as one:
        peer.on_call = lie
        assert message in error_of(await call(one.toolbox, "files__echo", text="x"))


async def test_redirects_are_not_followed(modern: ScriptedMcp) -> None:
    async def redirect(one: Call) -> None:
        await one.answer(307, b"", f"Location: http://127.0.0.1:{modern.port}/other")

    async with watched(modern) as one:
        modern.on_call = redirect
        assert "the server redirects" in error_of(await call(one.toolbox, "files__echo", text="x"))
        assert {request.path for request in modern.requests} == {"/mcp"}


async def test_connection_of_an_answer_that_never_ends_is_closed(
    modern: ScriptedMcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_END_SECONDS", 0.05)
    ended = asyncio.Event()

    async def go_on(one: Call) -> None:
        await one.stream()
        result = {"content": [{"type": "text", "text": "ok"}]}
        await one.event({"jsonrpc": "2.0", "id": one.message["id"], "result": result})
        await one.left.wait()
        ended.set()

    async with watched(modern) as one:
        modern.on_call = go_on
        assert (await call(one.toolbox, "files__echo", text="x")).content == "ok"
        async with asyncio.timeout(5):
            await ended.wait()


async def test_session_may_start_with_a_stream_of_events(legacy: ScriptedMcp) -> None:
    async def begin(one: Call) -> None:
        legacy.sessions.add("s-9")
        answer = {"protocolVersion": "2025-11-25", "capabilities": {}}
        await one.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nMcp-Session-Id: s-9\r\n")
        await one.send(b"Connection: close\r\n\r\nid: 1\ndata:\n\n")
        await one.event({"jsonrpc": "2.0", "id": one.message["id"], "result": answer})
        one.writer.close()

    legacy.on["initialize"] = begin
    async with watched(legacy) as one:
        assert one.server.state.version == "2025-11-25"
        assert (await call(one.toolbox, "files__echo", text="x")).content == "x"


async def test_call_on_a_connection_that_breaks_is_not_repeated(peer: ScriptedMcp) -> None:
    async def fall(one: Call) -> None:
        one.writer.transport.abort()

    async with watched(peer) as one:
        peer.on_call = fall
        assert "broke during the request" in error_of(await call(one.toolbox, "files__echo", text="x"))
        assert len(peer.of("tools/call")) == 1


async def test_connections_are_kept(peer: ScriptedMcp) -> None:
    async with watched(peer) as one:
        used = set()

        async def remember(one: Call) -> None:
            used.add(one.writer)
            await one.text("x")

        peer.on_call = remember
        for _ in range(5):
            await call(one.toolbox, "files__echo", text="x")
        assert len(used) == 1
