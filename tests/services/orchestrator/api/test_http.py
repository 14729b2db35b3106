"""The connection itself: features of HTTP/1.1 that client libraries rarely use."""

from __future__ import annotations

import asyncio
import gc
import subprocess
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.api.http import HttpConnection
from orchestrator.connection import Connection
from tests.support.live import Live, live, until
from tests.support.raw_http import (
    CHAT,
    answer,
    chat_body,
    closed,
    connected,
    post,
    post_in_chunks,
    request,
)
from tests.support.scripted_engine import ScriptedEngine, after, whole

HEALTH = request("GET", "/health")
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAA")
WEBSOCKET = ("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")


async def test_pipelined_requests_are_answered_in_order(server: Live, engine: ScriptedEngine) -> None:
    go_on = asyncio.Event()
    engine.play(after(go_on, whole("first")), whole("second"))
    async with connected(server) as (reader, writer):
        writer.write(post("one") + post("two") + HEALTH + post("three"))
        await engine.arrived.wait()
        engine.play(whole("third"))
        go_on.set()
        answers = [await answer(reader) for _ in range(4)]
    assert [one.status for one in answers] == [200] * 4
    assert [answers[i].content for i in (0, 1, 3)] == ["first", "second", "third"]
    asked = [request.json["messages"][0]["content"] for request in engine.requests]
    assert asked == ["one", "two", "three"]


async def test_pipelined_request_is_not_parsed_before_the_previous_one_is_answered(
    server: Live, engine: ScriptedEngine
) -> None:
    go_on = asyncio.Event()
    engine.play(after(go_on, whole("first")))
    async with connected(server) as (reader, writer):
        writer.write(post("one") + b"nonsense\r\n\r\n")
        await engine.arrived.wait()
        writer.write(b"more nonsense")
        await writer.drain()
        await server.http.get("/health")
        go_on.set()
        assert (await answer(reader)).content == "first"
        assert (await answer(reader)).error["code"] == "invalid_http"
        assert await closed(reader) == b""


async def test_expect_100_continue_is_answered_before_the_body(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("ok"))
    head, _, body = post("x", "Expect: 100-continue").partition(b"\r\n\r\n")
    async with connected(server) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        assert (await answer(reader)).status == 100
        writer.write(body)
        assert (await answer(reader)).status == 200


async def test_rejected_client_gets_no_100_continue(engine: ScriptedEngine) -> None:
    head, _, _ = post("x", "Expect: 100-continue").partition(b"\r\n\r\n")
    async with (
        live(engine.url, BOOTSTRAP_API_KEY="a-long-secret-key") as server,
        connected(server) as (reader, writer),
    ):
        writer.write(head + b"\r\n\r\n")
        rejected = await answer(reader)
        assert (rejected.status, rejected.headers["connection"]) == (401, "close")
        assert await closed(reader) == b""


async def test_connection_serves_several_requests_unless_asked_to_close(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.play(whole("a"), whole("b"))
    async with connected(server) as (reader, writer):
        writer.write(post())
        assert "connection" not in (await answer(reader)).headers
        writer.write(post("x", "Connection: keep-alive, Close"))
        assert (await answer(reader)).headers["connection"] == "close"
        assert await reader.read() == b""


async def test_http_1_0_client_gets_a_whole_answer_and_the_connection_is_closed(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.play(whole("a"))
    async with connected(server) as (reader, writer):
        writer.write(post(version="1.0"))
        assert (await answer(reader)).content == "a"
        assert await reader.read() == b""


async def test_wrong_method_gets_a_405_and_head_gets_no_body(server: Live) -> None:
    rejected = await server.http.get(CHAT)
    assert rejected.status_code == 405
    assert rejected.headers["allow"] == "POST"
    async with connected(server) as (reader, writer):
        writer.write(request("HEAD", CHAT, "Connection: close"))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405")
    assert body == b""


async def test_head_works_on_every_get_route(server: Live) -> None:
    async with connected(server) as (reader, writer):
        writer.write(request("HEAD", "/health") + HEALTH)
        head = await answer(reader, head_only=True)
        whole_answer = await answer(reader)
    assert head.status == whole_answer.status == 200
    assert head.headers["content-length"] == whole_answer.headers["content-length"]


async def test_path_is_found_despite_query_escapes_or_host(server: Live, engine: ScriptedEngine) -> None:
    for path in (f"{CHAT}?api-version=1", "/v1/chat%2Fcompletions", f"http://gateway.example{CHAT}"):
        engine.play(whole("found"))
        async with connected(server) as (reader, writer):
            writer.write(post(path=path))
            assert (await answer(reader)).content == "found"


async def test_other_protocols_are_rejected_in_openais_format(server: Live, engine: ScriptedEngine) -> None:
    for wrong in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"POST / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        request("POST", "ftp://x/"),
        request("GET", "/#fragment"),
    ):
        async with connected(server) as (reader, writer):
            writer.write(wrong)
            rejected = await answer(reader)
            assert (rejected.status, rejected.headers["connection"]) == (400, "close")
            assert rejected.error["code"] == "invalid_http"
            assert rejected.headers["x-request-id"]
            assert await closed(reader) == b""
    assert 'route="unknown",status="400"' in await server.metrics()
    engine.play(whole("still here"))
    assert (await server.chat()).status_code == 200


async def test_empty_lines_before_a_request_are_ignored(server: Live) -> None:
    async with connected(server) as (reader, writer):
        for piece in (b"\r", b"\n\r\n", HEALTH[:5], HEALTH[5:]):
            writer.write(piece)
            await writer.drain()
            await server.http.get("/health")
        assert (await answer(reader)).status == 200


@pytest.mark.parametrize("fields", [H2C, WEBSOCKET])
@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("pieces", [1, 2, 50])
async def test_upgrade_is_ignored_and_the_body_is_not_a_request(
    server: Live, engine: ScriptedEngine, fields: tuple[str, ...], framing: str, pieces: int
) -> None:
    engine.play(whole("first"), whole("second"))
    content = "GET /metrics HTTP/1.1\r\nHost: hidden\r\n\r\n"
    sent = post(content, *fields) if framing == "length" else post_in_chunks(content, *fields)
    sent += post("next", *fields)
    places = [len(sent) * at // pieces for at in range(pieces + 1)]
    async with connected(server) as (reader, writer):
        for start, end in pairwise(places):
            writer.write(sent[start:end])
            await writer.drain()
            await asyncio.sleep(0)
        assert (await answer(reader)).content == "first"
        assert (await answer(reader)).content == "second"
    assert [one.json["messages"][0]["content"] for one in engine.requests] == [content, "next"]


async def test_upgrade_without_a_body_is_served_normally(server: Live) -> None:
    async with connected(server) as (reader, writer):
        writer.write(request("GET", "/health", *H2C) + request("GET", "/v1/models", *WEBSOCKET))
        assert [(await answer(reader)).status for _ in range(2)] == [200, 200]


async def test_curl_that_offers_http_2_is_served(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("as HTTP/1.1"))
    command = ["curl", "--silent", "--fail", "--http2", "--data", "@-", f"{server.url}{CHAT}"]
    ended = await asyncio.to_thread(
        subprocess.run, command, input=chat_body(), capture_output=True, check=True, timeout=20
    )
    assert b"as HTTP/1.1" in ended.stdout


@pytest.mark.parametrize("target", [CHAT, "example.com:443"])
async def test_connect_is_rejected_and_what_follows_it_is_not_a_request(server: Live, target: str) -> None:
    async with connected(server) as (reader, writer):
        writer.write(request("CONNECT", target, "Content-Length: 3", body=b"abc") + HEALTH)
        rejected = await answer(reader)
        assert (rejected.status, rejected.headers["connection"]) == (405, "close")
        assert rejected.error["code"] == "method_not_allowed"
        assert await closed(reader) == b""


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(cuts=st.lists(st.integers(1, 400), max_size=12), chunked=st.booleans())
async def test_request_may_arrive_in_any_parts(
    server: Live, engine: ScriptedEngine, cuts: list[int], chunked: bool
) -> None:
    engine.play(whole("same"))
    sent = post_in_chunks("é" * 20, size=1) if chunked else post("é" * 20)
    places = [0, *sorted({cut for cut in cuts if cut < len(sent)}), len(sent)]
    async with connected(server) as (reader, writer):
        for start, end in pairwise(places):
            writer.write(sent[start:end])
            await writer.drain()
            await asyncio.sleep(0)
        assert (await answer(reader)).content == "same"
    assert engine.requests[-1].json["messages"][0]["content"] == "é" * 20


async def test_idle_connection_is_closed_and_a_used_one_is_not(engine: ScriptedEngine) -> None:
    engine.otherwise = whole("ok")
    async with live(engine.url, KEEP_ALIVE_SECONDS="1") as server, connected(server) as (reader, writer):
        begun = asyncio.get_running_loop().time()
        # Requests, including rejected ones, for longer than a connection may be idle.
        while asyncio.get_running_loop().time() - begun < 1.3:
            writer.write(post())
            assert (await answer(reader)).status == 200
            writer.write(request("GET", CHAT))
            assert (await answer(reader)).status == 405
        assert await asyncio.wait_for(reader.read(), 10) == b""
        assert asyncio.get_running_loop().time() - begun >= 2


async def test_closed_connections_leave_no_reference_cycles(server: Live, engine: ScriptedEngine) -> None:
    def left() -> int:
        return sum(isinstance(item, HttpConnection | Connection) for item in gc.get_objects())

    gc.collect()
    before = left()
    gc.disable()
    try:
        for path in ("/health", "/v1/models", "/nothing"):
            engine.play(whole("answer"), whole("answer"))
            async with connected(server) as (reader, writer):
                writer.write(post() + post_in_chunks("x"))
                assert [(await answer(reader)).status for _ in range(2)] == [200, 200]
                writer.write(request("GET", path))
                await answer(reader)
        assert left() > before
        for address in server.app._fleets.first.discovery.up():
            address.drop_idle()
        await until(lambda: left() <= before)
    finally:
        gc.enable()
