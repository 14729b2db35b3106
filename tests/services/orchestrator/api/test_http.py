"""The connection itself: what clients may do in HTTP/1.1 that client libraries seldom do."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.api.http import HttpConnection
from orchestrator.engine.connection import Connection
from tests.support.live import Live, live, until
from tests.support.scripted_engine import ScriptedEngine, after, whole

CHAT = "/v1/chat/completions"


def post(content: str = "x", *, path: str = CHAT, version: str = "1.1", headers: str = "") -> bytes:
    body = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()
    head = f"POST {path} HTTP/{version}\r\nhost: x\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


@asynccontextmanager
async def connected(server: Live) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next answer with a length."""
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode()
    status, *lines = head.strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


def content_of(body: bytes) -> str:
    return str(json.loads(body)["choices"][0]["message"]["content"])


async def test_pipelined_requests_are_answered_in_their_order(server: Live, engine: ScriptedEngine) -> None:
    go_on = asyncio.Event()
    engine.play(after(go_on, whole("first")), whole("second"))
    async with connected(server) as (reader, writer):
        writer.write(post("one") + post("two") + b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n" + post("three"))
        await engine.arrived.wait()
        engine.play(whole("third"))
        go_on.set()
        answers = [await answer(reader) for _ in range(4)]
    assert [status for status, _, _ in answers] == [200] * 4
    assert [content_of(answers[i][2]) for i in (0, 1, 3)] == ["first", "second", "third"]
    told = [request.json["messages"][0]["content"] for request in engine.requests]
    assert told == ["one", "two", "three"]


async def test_expect_100_continue_is_answered_before_the_body(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("ok"))
    head, _, body = post(headers="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    async with connected(server) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await answer(reader))[0] == 200


async def test_connection_serves_one_request_after_the_other_unless_told_to_close(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.play(whole("a"), whole("b"))
    async with connected(server) as (reader, writer):
        writer.write(post())
        assert "connection" not in (await answer(reader))[1]
        writer.write(post(headers="Connection: close\r\n"))
        _, headers, _ = await answer(reader)
        assert headers["connection"] == "close"
        assert await reader.read() == b""


async def test_http_1_0_gets_a_whole_answer_and_the_end_of_the_connection(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.play(whole("a"))
    async with connected(server) as (reader, writer):
        writer.write(post(version="1.0"))
        assert content_of((await answer(reader))[2]) == "a"
        assert await reader.read() == b""


async def test_wrong_method_is_a_405_and_a_head_has_no_body(server: Live) -> None:
    refused = await server.http.get(CHAT)
    assert refused.status_code == 405
    assert refused.headers["allow"] == "POST"
    async with connected(server) as (reader, writer):
        writer.write(f"HEAD {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405")
    assert body == b""


async def test_path_is_found_with_a_query_an_escape_or_a_host_before_it(
    server: Live, engine: ScriptedEngine
) -> None:
    for path in (f"{CHAT}?api-version=1", "/v1/chat%2Fcompletions", f"http://gateway.example{CHAT}"):
        engine.play(whole("found"))
        async with connected(server) as (reader, writer):
            writer.write(post(path=path))
            assert content_of((await answer(reader))[2]) == "found"


async def test_what_is_no_http_is_refused(server: Live, engine: ScriptedEngine) -> None:
    for wrong in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"POST / HTTP/9.9\r\n\r\n",
        b"POST //[ HTTP/1.1\r\nhost: x\r\n\r\n",
    ):
        async with connected(server) as (reader, writer):
            writer.write(wrong)
            assert b"400" in await reader.readline()
    engine.play(whole("still here"))
    assert (await server.chat()).status_code == 200


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(cuts=st.lists(st.integers(1, 400), max_size=12), chunked=st.booleans())
async def test_request_in_any_pieces_is_the_same_request(
    server: Live, engine: ScriptedEngine, cuts: list[int], chunked: bool
) -> None:
    engine.play(whole("same"))
    sent = post("é" * 20)
    if chunked:
        head, _, body = sent.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"content-length")]
        framed = b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in body) + b"0\r\n\r\n"
        sent = b"\r\n".join([*lines, b"transfer-encoding: chunked", b"", b""]) + framed
    places = [0, *sorted({cut for cut in cuts if cut < len(sent)}), len(sent)]
    async with connected(server) as (reader, writer):
        for start, end in pairwise(places):
            writer.write(sent[start:end])
            await writer.drain()
            await asyncio.sleep(0)
        assert content_of((await answer(reader))[2]) == "same"
    assert engine.requests[-1].json["messages"][0]["content"] == "é" * 20


async def test_idle_connection_is_closed_and_a_used_one_is_not(engine: ScriptedEngine) -> None:
    engine.otherwise = whole("ok")
    async with live(engine.url, KEEP_ALIVE_SECONDS="1") as server, connected(server) as (reader, writer):
        begun = asyncio.get_running_loop().time()
        # Requests, refused ones too, for longer than an idle connection may be.
        while asyncio.get_running_loop().time() - begun < 1.3:
            writer.write(post())
            assert (await answer(reader))[0] == 200
            writer.write(f"GET {CHAT} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert (await answer(reader))[0] == 405
        assert await asyncio.wait_for(reader.read(), 10) == b""
        assert asyncio.get_running_loop().time() - begun >= 2


async def test_closed_connections_leave_nothing_for_the_collector(
    server: Live, engine: ScriptedEngine
) -> None:
    def left() -> int:
        return sum(isinstance(item, HttpConnection | Connection) for item in gc.get_objects())

    gc.collect()
    before = left()
    gc.disable()
    try:
        for path in ("/health", "/v1/models", "/nothing"):
            engine.play(whole("answer"))
            async with connected(server) as (reader, writer):
                writer.write(post())
                assert (await answer(reader))[0] == 200
                writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
                await answer(reader)
        assert left() > before
        for address in server.app._discovery.up():
            address.drop_idle()
        await until(lambda: left() <= before)
    finally:
        gc.enable()
