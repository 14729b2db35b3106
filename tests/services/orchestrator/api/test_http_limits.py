"""Hostile clients: bytes, time and memory of a connection are limited in every phase."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Any

import pytest

from orchestrator.api.head import MAX_FIELDS, MAX_HEAD_BYTES
from orchestrator.api.http import MAX_AHEAD_BYTES
from tests.support.live import Live, live, until
from tests.support.raw_http import CHAT, answer, closed, connected, post, post_in_chunks, request
from tests.support.scripted_engine import ScriptedEngine, after, body, call, stream, text, whole

KEY = "a-long-secret-key"
MATH = {"type": "function", "function": {"name": "calculate_math"}}
HEALTH = request("GET", "/health")


def unread_socket(server: Live) -> socket.socket:
    """A client that never reads and whose kernel buffers little data."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.setblocking(False)
    return client


@pytest.mark.parametrize(
    "sent",
    [
        request("GET", "/health", *[f"x-{number}: a" for number in range(MAX_FIELDS)]),
        request("GET", "/health", f"x: {'a' * MAX_HEAD_BYTES}"),
        request("GET", f"/{'a' * MAX_HEAD_BYTES}"),
        b"GET /health HTTP/1.1\r\nHost: x\r\nx: " + b"a" * (MAX_HEAD_BYTES + 1),
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"x: a\r\n" * 20_000,
        b"GET /" + b"a" * 1_000_000,
    ],
)
async def test_head_that_is_too_large_gets_a_431(server: Live, sent: bytes) -> None:
    async with connected(server) as (reader, writer):
        writer.write(sent)
        rejected = await answer(reader)
        assert (rejected.status, rejected.headers["connection"]) == (431, "close")
        assert rejected.error["code"] == "request_headers_too_large"
        assert await closed(reader) == b""


async def test_head_at_the_limits_is_served(server: Live) -> None:
    fields = [f"x-{number}: a" for number in range(MAX_FIELDS - 1)]
    sent = request("GET", "/health", *fields)
    fields[0] += "b" * (MAX_HEAD_BYTES - len(sent))
    sent = request("GET", "/health", *fields)
    assert len(sent) == MAX_HEAD_BYTES
    async with connected(server) as (reader, writer):
        writer.write(sent)
        assert (await answer(reader)).status == 200


async def test_huge_head_does_not_delay_other_clients(server: Live) -> None:
    async with connected(server) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nx: ")
        begun = time.process_time()
        for _ in range(4000):  # in pieces, which were once copied again with each
            writer.write(b"a" * 4096)
            await asyncio.sleep(0)
        assert (await answer(reader)).status == 431
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("sent", [b"GET /hea", b"GET /health HTTP/1.1\r\nHost: x\r\nx", b"\r\nG"])
async def test_incomplete_head_gets_a_408(engine: ScriptedEngine, sent: bytes) -> None:
    async with (
        live(engine.url, HEAD_TIMEOUT_SECONDS="0.2") as server,
        connected(server) as (reader, writer),
    ):
        writer.write(sent)
        late = await answer(reader)
        assert (late.status, late.headers["connection"]) == (408, "close")
        assert "HEAD_TIMEOUT_SECONDS" in late.error["message"]
        assert await closed(reader) == b""


async def test_incomplete_head_after_a_request_gets_a_408(engine: ScriptedEngine) -> None:
    async with (
        live(engine.url, HEAD_TIMEOUT_SECONDS="0.2") as server,
        connected(server) as (reader, writer),
    ):
        writer.write(HEALTH + HEALTH[:10])
        assert (await answer(reader)).status == 200
        assert (await answer(reader)).status == 408
        assert await closed(reader) == b""


async def test_slowly_sent_head_gets_no_extra_time(engine: ScriptedEngine) -> None:
    async with (
        live(engine.url, HEAD_TIMEOUT_SECONDS="0.3") as server,
        connected(server) as (reader, writer),
    ):
        begun = time.monotonic()
        writer.write(b"GET /health HTTP/1.1\r\n")
        while not reader._buffer and time.monotonic() - begun < 5:  # type: ignore[attr-defined]
            writer.write(b"x: a\r\n")
            await asyncio.sleep(0.02)
        assert (await answer(reader)).status == 408
        assert time.monotonic() - begun < 2


async def test_connection_that_sends_nothing_is_closed(engine: ScriptedEngine) -> None:
    async with (
        live(engine.url, HEAD_TIMEOUT_SECONDS="0.2") as server,
        connected(server) as (reader, _),
    ):
        assert await closed(reader) == b""


async def test_trailers_are_ignored(engine: ScriptedEngine) -> None:
    trailers = f"0\r\nAuthorization: Bearer {KEY}\r\nX-API-Key: {KEY}\r\nX-Tool-Execution: client\r\n\r\n"
    async with live(engine.url, BOOTSTRAP_API_KEY=KEY) as server, connected(server) as (reader, writer):
        writer.write(post_in_chunks("x", end=trailers.encode()))
        assert (await answer(reader)).status == 401
        engine.play(whole("served"))
        writer.write(post_in_chunks("x", f"X-API-Key: {KEY}", end=trailers.encode()) + HEALTH)
        assert (await answer(reader)).content == "served"
        assert (await answer(reader)).status == 200


@pytest.mark.parametrize(
    ("chunks", "status"),
    [
        (b"0\r\n" + b"x: a\r\n" * 5000, 400),
        (b"0\r\nx: " + b"a" * 100_000, 400),
        (b"1;" + b"a" * 1000, 400),
        (b"0\r\nnot a field\r\n\r\n", 400),
        (b"1\r\nab\r\n0\r\n\r\n", 400),
        (b"1\nx\r\n0\r\n\r\n", 400),
        (b"0x1\r\nx\r\n0\r\n\r\n", 400),
        (b"-1\r\nx\r\n0\r\n\r\n", 400),
        (b"100000000\r\nx\r\n0\r\n\r\n", 400),
        (b"fffffff\r\nx", 413),
    ],
)
async def test_invalid_or_endless_chunks_are_rejected(server: Live, chunks: bytes, status: int) -> None:
    async with connected(server) as (reader, writer):
        writer.write(request("POST", CHAT, "Transfer-Encoding: chunked", body=chunks))
        rejected = await answer(reader)
        assert (rejected.status, rejected.headers["connection"]) == (status, "close")
        assert rejected.error
        assert await closed(reader) == b""


async def test_rejected_client_that_keeps_sending_still_gets_its_answer(engine: ScriptedEngine) -> None:
    """A reset would make the client's kernel discard the answer."""
    async with live(engine.url, MAX_BODY_BYTES="2000") as server, connected(server) as (reader, writer):
        writer.write(request("POST", CHAT, "Content-Length: 3000000"))
        for _ in range(30):
            writer.write(b"x" * 100_000)
            await writer.drain()
        assert (await answer(reader)).status == 413
        assert await closed(reader) == b""


async def test_body_on_a_route_without_one_is_limited(server: Live) -> None:
    for method, path, status in (("GET", "/health", 413), ("POST", "/nothing", 413)):
        async with connected(server) as (reader, writer):
            writer.write(request(method, path, "Content-Length: 8000000"))
            assert (await answer(reader)).status == status


async def test_body_of_a_later_request_has_the_same_limit(engine: ScriptedEngine) -> None:
    go_on = asyncio.Event()
    async with live(engine.url, MAX_BODY_BYTES="2000") as server, connected(server) as (reader, writer):
        engine.play(after(go_on, whole("first")))
        writer.write(post() + request("POST", CHAT, "Content-Length: 1000000000"))
        await engine.arrived.wait()
        go_on.set()
        assert (await answer(reader)).content == "first"
        assert (await answer(reader)).status == 413


async def test_connection_is_closed_if_the_client_sends_more_than_64_kib_ahead(
    server: Live, engine: ScriptedEngine
) -> None:
    never = asyncio.Event()
    engine.play(after(never, whole("late")))
    async with connected(server) as (reader, writer):
        writer.write(post() + request("POST", CHAT, "Content-Length: 1000000"))
        await engine.arrived.wait()
        writer.write(b"x" * (MAX_AHEAD_BYTES + 1))
        assert await closed(reader) == b""
    await asyncio.wait_for(engine.aborted.wait(), 2)
    await until(lambda: len(server.server.in_flight) == 0)


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("behind", [b"", HEALTH, HEALTH + b"POST /"])
@pytest.mark.parametrize("payload", [{}, {"stream": True}, {"tools": [MATH]}])
async def test_client_that_leaves_is_noticed_within_100_ms_whatever_is_pipelined(
    server: Live, engine: ScriptedEngine, how: str, behind: bytes, payload: dict[str, Any]
) -> None:
    never = asyncio.Event()
    engine.play(after(never, whole("late")))
    async with connected(server) as (reader, writer):
        writer.write(post("x", **payload) + behind)
        await engine.arrived.wait()
        left = time.monotonic()
        if how == "FIN":
            writer.write_eof()
        else:
            writer.transport.abort()
        await asyncio.wait_for(engine.aborted.wait(), 2)
        assert time.monotonic() - left < 0.1
        assert await closed(reader) == b""
    while 'status="499"' not in await server.metrics():
        pass
    assert len(engine.requests) == 1


async def test_client_that_leaves_between_rounds_of_tools_ends_the_loop(
    server: Live, engine: ScriptedEngine
) -> None:
    never = asyncio.Event()
    rounds = [whole(calls=[call("calculate_math", f'{{"expression": "1+{number}"}}')]) for number in range(2)]
    engine.play(*rounds, after(never, whole("late")))
    async with connected(server) as (_, writer):
        writer.write(post("x", tools=[MATH]) + HEALTH)
        await until(lambda: len(engine.requests) == 3)
    await asyncio.wait_for(engine.aborted.wait(), 2)
    assert len(engine.requests) == 3


@pytest.mark.parametrize(
    "one", [HEALTH, request("GET", "/nothing"), request("DELETE", CHAT), post(), request("POST", CHAT)]
)
async def test_unread_answers_stop_the_next_request(engine: ScriptedEngine, one: bytes) -> None:
    """The server answers no more than fits into the transport's buffer, which once grew to a gibibyte."""
    async with live(engine.url, BOOTSTRAP_API_KEY=KEY) as server:
        client = unread_socket(server)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(30):
                while True:
                    await loop.sock_sendall(client, one * 500)
                    for connection in server.server.connections:
                        assert connection.transport.get_write_buffer_size() < 1_000_000
        client.close()
        await until(lambda: len(server.server.connections) == 0)


@pytest.mark.parametrize("streaming", [False, True])
async def test_connection_of_a_client_that_does_not_read_is_closed(
    engine: ScriptedEngine, streaming: bool
) -> None:
    answered = stream(*text(*["x" * 100_000] * 100)) if streaming else whole("x" * 10_000_000)
    engine.play(answered)
    async with live(engine.url, UNREAD_TIMEOUT_SECONDS="0.3") as server:
        client = unread_socket(server)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, post(stream=streaming))
        await engine.arrived.wait()
        await until(lambda: len(server.server.connections) == 0)
        client.close()
    assert len(server.server.in_flight) == 0


async def test_client_that_reads_slowly_gets_its_whole_answer(engine: ScriptedEngine) -> None:
    engine.play(whole("x" * 5_000_000))
    async with live(engine.url, UNREAD_TIMEOUT_SECONDS="0.3") as server:
        client = unread_socket(server)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, post("x", "Connection: close"))
        received, begun = 0, time.monotonic()
        while part := await loop.sock_recv(client, 200_000 if time.monotonic() - begun > 1 else 4096):
            received += len(part)
            if time.monotonic() - begun < 1:
                await asyncio.sleep(0.05)
        client.close()
    assert received > 5_000_000


@pytest.mark.parametrize("sent", [request("POST", CHAT, "Content-Length: 10"), b"nonsense", HEALTH])
async def test_connection_of_a_rejected_client_that_does_not_read_is_closed(
    engine: ScriptedEngine, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.api.http.LINGER_SECONDS", 0.2)
    async with live(
        engine.url, BOOTSTRAP_API_KEY=KEY, UNREAD_TIMEOUT_SECONDS="0.2", KEEP_ALIVE_SECONDS="0.3"
    ) as server:
        client = unread_socket(server)
        await asyncio.get_running_loop().sock_sendall(client, sent)
        await until(lambda: len(server.server.connections) == 1)
        await until(lambda: len(server.server.connections) == 0)
        client.close()


@pytest.mark.parametrize("status", [299, 306, 399, 419, 420, 430, 460, 499, 599, 600, 700, 999])
@pytest.mark.parametrize("payload", [{}, {"tools": [MATH]}, {"stream": True}])
async def test_any_status_from_the_engine_is_passed_on(
    server: Live, engine: ScriptedEngine, status: int, payload: dict[str, Any]
) -> None:
    refusal = {"error": {"message": "odd", "type": "x", "param": None, "code": status}}
    engine.otherwise = body(refusal, status)
    async with connected(server) as (reader, writer):
        writer.write(post("x", **payload))
        odd = await answer(reader)
        assert odd.status >= 200
    await until(lambda: len(server.server.in_flight) == 0)


@pytest.mark.patches_methods
async def test_exchange_ends_even_if_the_answer_cannot_be_written(
    server: Live, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("cannot be written")

    engine.play(whole("never written"))
    monkeypatch.setattr("orchestrator.api.reply.Reply.whole", broken)
    async with connected(server) as (reader, writer):
        writer.write(post())
        assert await closed(reader) == b""
    await until(lambda: len(server.server.in_flight) == 0)
    assert "cannot be written" in caplog.text
