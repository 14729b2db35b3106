"""The client of several engines: retries, health checks and the wait for an engine to start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.connection import OUR_FAILURES, Connection
from orchestrator.engine.address import Address
from orchestrator.engine.client import Engines
from orchestrator.engine.discovery import Discovery
from orchestrator.errors import EngineFailed, EngineUnavailable
from orchestrator.telemetry import Record, Telemetry
from tests.support.live import Live, live, until
from tests.support.scripted_engine import (
    CUT,
    ScriptedEngine,
    after,
    body,
    call,
    cut,
    raw_stream,
    scripted_engine,
    stream,
    text,
    whole,
)

CHAT = "/v1/chat/completions"
BUSY = body({"error": {"message": "queue is full"}}, 503)
MATH = {"type": "function", "function": {"name": "calculate_math"}}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def engines(
    *urls: str, wait: float = 5.0, refresh: float = 0.1, key: str = "engine-key"
) -> AsyncIterator[Engines]:
    discovery = Discovery(urls, api_key=key, connect_seconds=1, refresh_seconds=refresh)
    await discovery.start()
    try:
        yield Engines(discovery, Telemetry(), wait_seconds=wait)
    finally:
        await discovery.close()


@pytest.fixture
async def second() -> AsyncIterator[ScriptedEngine]:
    async with scripted_engine() as running:
        yield running


def content(answer: Any) -> Any:
    return answer.json()["choices"][0]["message"]["content"]


async def test_each_request_is_sent_with_the_engine_key_and_the_request_id(engine: ScriptedEngine) -> None:
    async with engines(engine.url) as known:
        engine.play(whole("ok"))
        with await known.ask(CHAT, b"{}", Record("r-1", CHAT)) as answer:
            assert b"ok" in await answer.body()
    assert engine.requests[0].headers["authorization"] == "Bearer engine-key"
    assert engine.requests[0].headers["x-request-id"] == "r-1"
    assert engine.requests[0].headers["host"] == f"127.0.0.1:{engine.port}"


async def test_engine_that_rejects_one_of_two_keys_gets_the_other(engine: ScriptedEngine) -> None:
    engine.otherwise = whole("ok")
    async with engines(engine.url, key="old,new", refresh=60) as known:
        for engine.key in ("old", "new", "old"):
            answers = await asyncio.gather(*(known.ask(CHAT, b"{}") for _ in range(8)))
            for answer in answers:
                with answer:
                    assert b"ok" in await answer.body()
        engine.key = "third"
        with pytest.raises(EngineFailed, match="VLLM_API_KEY"):
            await known.ask(CHAT, b"{}")


async def test_probe_finds_the_key_that_an_engine_accepts(engine: ScriptedEngine) -> None:
    engine.key = "new"
    async with engines(engine.url, key="old,new", refresh=60) as known:
        await until(lambda: known._discovery.models is not None)
        assert known._discovery.why_not_ready() is None
    assert engine.requests == []


async def test_connections_are_reused(engine: ScriptedEngine) -> None:
    async with engines(engine.url) as known:
        engine.play(whole("1"), stream(*text("2")), whole("3"))
        for streaming in (False, True, False):
            with await known.ask(CHAT, b'{"stream": true}', whole=not streaming) as answer:
                while await answer.chunks():
                    pass
        (address,) = known._discovery._addresses.values()
        assert len(address.idle) <= 2  # a probe may have run in between
        assert address.in_flight == 0


async def test_stale_connection_is_replaced_transparently(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("first"))
    await server.chat()
    port = engine.port
    await engine.stop()
    await engine.start(port)
    engine.play(whole("second"))
    assert content(await server.chat()) == "second"


@pytest.mark.parametrize("failure", ["refused", "reset", "cut in the body", "503"])
async def test_failure_before_the_first_byte_is_retried_on_another_engine(
    engine: ScriptedEngine, second: ScriptedEngine, failure: str
) -> None:
    bad = {
        "refused": None,
        "reset": cut(),
        "cut in the body": cut(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"),
        "503": BUSY,
    }[failure]
    async with live(engine.url, second.url, ENGINE_AFFINITY="false") as server:
        if bad is None:
            await engine.stop()
        else:
            engine.otherwise = bad
        second.play(whole("second"), whole("second"))
        assert content(await server.chat()) == "second"
        assert "engine_retries_total 0.0" not in await server.metrics() or bad is None
        if bad is None:
            await engine.start(engine.port)


async def test_nothing_is_retried_after_the_first_byte(
    engine: ScriptedEngine, second: ScriptedEngine
) -> None:
    async with live(engine.url, second.url, ENGINE_AFFINITY="false") as server:
        engine.play(stream(*text("It "), CUT))
        events = await server.chat_events()
    assert isinstance(events[-1], dict)
    assert "error" in events[-1]
    assert second.requests == []


async def test_request_gets_a_503_at_once_if_every_engine_is_busy(
    engine: ScriptedEngine, second: ScriptedEngine
) -> None:
    engine.otherwise = second.otherwise = BUSY
    async with live(engine.url, second.url, ENGINE_AFFINITY="false") as server:
        answer = await server.chat()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert "queue is full" in answer.json()["error"]["message"]
    assert (len(engine.requests), len(second.requests)) == (1, 1)


async def test_request_that_breaks_every_engine_is_not_retried_forever(engine: ScriptedEngine) -> None:
    engine.otherwise = cut()
    async with engines(engine.url) as known:
        with pytest.raises(EngineFailed, match="3 times"):
            await known.ask(CHAT, b"{}")
    assert len(engine.requests) in (3, 4)  # the first may have been sent over a kept connection


async def test_request_waits_for_an_engine_to_start(engine: ScriptedEngine) -> None:
    port = engine.port
    await engine.stop()
    engine.play(whole("awake"))
    async with live(engine.url) as server:
        waiting = asyncio.create_task(server.chat())
        while 'engine_up{engine="127.0.0.1' not in await server.metrics():
            pass
        await until(lambda: len(server.server.in_flight) == 1)
        await engine.start(port)
        assert content(await waiting) == "awake"


async def test_engine_that_never_starts_causes_a_503_with_the_reason() -> None:
    port = free_port()
    async with live(f"http://127.0.0.1:{port}", ENGINE_WAIT_SECONDS="0.2") as server:
        answer = await server.chat()
    error = answer.json()["error"]
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert f"127.0.0.1:{port}" in error["message"]
    assert "starting" in error["message"]
    assert "VLLM_URL" in error["message"]


async def test_unhealthy_engine_gets_no_requests(engine: ScriptedEngine, second: ScriptedEngine) -> None:
    engine.healthy = False
    async with live(engine.url, second.url, ENGINE_AFFINITY="false") as server:
        while f'engine_up{{engine="127.0.0.1:{engine.port}"}} 0.0' not in await server.metrics():
            pass
        second.play(*[whole("second")] * 4)
        for _ in range(4):
            assert content(await server.chat()) == "second"
        engine.healthy = True
        while f'engine_up{{engine="127.0.0.1:{engine.port}"}} 1.0' not in await server.metrics():
            pass


async def test_least_loaded_engine_is_chosen(engine: ScriptedEngine, second: ScriptedEngine) -> None:
    go_on = asyncio.Event()
    async with live(engine.url, second.url, ENGINE_AFFINITY="false") as server:
        engine.otherwise = second.otherwise = after(go_on, whole("ok"))
        asks = [asyncio.create_task(server.chat()) for _ in range(6)]
        await until(lambda: engine.running + second.running == 6)
        assert (engine.running, second.running) == (3, 3)
        metrics = await server.metrics()
        assert f'engine_requests_in_flight{{engine="127.0.0.1:{engine.port}"}} 3.0' in metrics
        go_on.set()
        await asyncio.gather(*asks)


async def test_all_rounds_of_a_request_go_to_the_same_engine(
    engine: ScriptedEngine, second: ScriptedEngine
) -> None:
    async with live(engine.url, second.url, ENGINE_AFFINITY="false") as server:
        for number in range(4):
            calls = [call("calculate_math", {"expression": f"1+{number}"})]
            for one in (engine, second):
                one.replies.clear()
                one.play(whole(calls=calls), whole("done"))
            before = (len(engine.requests), len(second.requests))
            await server.chat(tools=[MATH])
            grown = (len(engine.requests) - before[0], len(second.requests) - before[1])
            assert grown in ((2, 0), (0, 2))


async def test_preferred_engine_is_not_overloaded(engine: ScriptedEngine, second: ScriptedEngine) -> None:
    async with engines(engine.url, second.url) as known:
        first, other = known._discovery._addresses.values()
        assert known._choose(other, None, set()) is other
        other.in_flight = 8
        assert known._choose(other, None, set()) is first
        first.in_flight = 7
        assert known._choose(other, None, set()) is other


async def test_one_broken_request_does_not_mark_the_engine_as_down(engine: ScriptedEngine) -> None:
    async with engines(engine.url, refresh=60) as known:
        await until(lambda: known._discovery.why_not_ready() is None)
        engine.play(cut(), cut())
        engine.otherwise = whole("fine")
        asking = asyncio.create_task(known.ask(CHAT, b"{}"))
        while not asking.done():
            assert known._discovery.why_not_ready() is None
            await asyncio.sleep(0)
        (await asking).close()


async def test_busy_engine_is_reported_if_the_other_one_is_unreachable(
    engine: ScriptedEngine, second: ScriptedEngine
) -> None:
    engine.otherwise = BUSY
    async with engines(engine.url, second.url, wait=0, refresh=60) as known:
        await until(lambda: all(state.up for state in known._discovery.states()))
        await second.stop()
        with pytest.raises(EngineUnavailable, match="queue is full"):
            await known.ask(CHAT, b"{}")
        await second.start(second.port)


async def test_connection_is_kept_if_the_body_ends_after_done(engine: ScriptedEngine) -> None:
    async with engines(engine.url) as known:
        may_end = asyncio.Event()
        engine.play(stream(*text("ok"), b"data: [DONE]\n\n", may_end))
        with await known.ask(CHAT, b"{}", whole=False) as answer:
            while block := await answer.events():
                if b"[DONE]" in block:
                    may_end.set()
            connection = answer._response._connection
        assert connection in answer.address.idle


async def test_body_without_a_length_ends_when_the_connection_closes(engine: ScriptedEngine) -> None:
    async with engines(engine.url) as known:

        async def until_close(exchange: Any) -> None:
            await exchange.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{}")
            exchange.writer.close()

        engine.play(until_close)
        with await known.ask(CHAT, b"{}") as answer:
            assert await answer.body() == b"{}"


async def test_answer_that_is_not_http_is_reported_as_a_failure_of_the_engine(engine: ScriptedEngine) -> None:
    engine.otherwise = cut(b"220 smtp.example.com\r\n")
    async with engines(engine.url) as known:
        with pytest.raises(EngineFailed, match="not HTTP"):
            await known.ask(CHAT, b"{}")


async def test_slow_client_slows_down_the_engine_instead_of_filling_memory(
    server: Live, engine: ScriptedEngine
) -> None:
    flood = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 65_000)
    engine.play(raw_stream(flood * 2000 + b"data: [DONE]\n\n", [len(flood)] * 2000))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
    sent = b'{"stream": true, "messages": [{"role": "user", "content": "x"}]}'
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(sent) + sent
    )
    await reader.readuntil(b"\r\n\r\n")
    (address,) = server.app._fleets.first.discovery._addresses.values()
    assert address.in_flight == 1
    paused: list[int] = []
    while len(paused) < 50:
        await asyncio.sleep(0.01)
        paused.append(engine_buffer(engine))
        if len(paused) > 10 and paused[-1] == paused[-10] > 0:
            break
    else:
        pytest.fail("the engine was never slowed down")
    writer.transport.abort()
    await asyncio.wait_for(engine.aborted.wait(), 5)


def engine_buffer(engine: ScriptedEngine) -> int:
    """Number of bytes that the engine could not send yet."""
    return sum(writer.transport.get_write_buffer_size() for writer in engine._writers)


@pytest.mark.patches_methods
@pytest.mark.parametrize("number", sorted(OUR_FAILURES))
async def test_failure_to_open_a_connection_at_all_is_not_the_engines(
    server: Live, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    engine.otherwise = whole("ok")
    await until(lambda: bool(server.app._fleets.first.discovery.models))
    (address,) = server.app._fleets.first.discovery._addresses.values()
    failed = 0

    async def fail(*_: Any, **__: Any) -> Any:
        nonlocal failed
        failed += 1
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "open", fail)
        patched.setattr(Address, "_kept", lambda _: None)
        answer = await server.chat()
        address.probe_now.set()
        await until(lambda: failed > 1)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_connection")
        assert answer.headers["retry-after"] == "2"
    assert address.up
    assert content(await server.chat()) == "ok"


async def test_requests_with_the_same_beginning_go_to_one_engine_until_it_is_busy(
    engine: ScriptedEngine, second: ScriptedEngine
) -> None:
    engine.otherwise = second.otherwise = whole("ok")
    async with engines(engine.url, second.url) as known:
        prefixes = [known.prefix_of({"prompt": f"conversation {number}"}) for number in range(40)]
        homes = []
        for prefix in prefixes * 2:
            with await known.ask(CHAT, b"{}", prefix=prefix) as answer:
                homes.append(answer.address)
        assert homes[:40] == homes[40:]
        assert len(set(homes)) == 2
        held = [await known.ask(CHAT, b"{}", prefix=prefixes[0]) for _ in range(10)]
        loads = sorted(address.in_flight for address in known._discovery.up())
        assert loads == [3, 7]  # 1.25 times the mean of 5, rounded up
        for answer in held:
            answer.close()
        text = known._telemetry.exposition().decode()
        at_home = 80 + sum(answer.address is homes[0] for answer in held)
        assert f'engine_affinity_total{{engine="home"}} {at_home}.0' in text


async def test_engine_that_missed_a_probe_gets_no_new_requests(
    engine: ScriptedEngine, second: ScriptedEngine
) -> None:
    engine.otherwise = second.otherwise = whole("ok")
    async with engines(engine.url, second.url) as known:
        prefix = known.prefix_of({"prompt": "Hi"})
        with await known.ask(CHAT, b"{}", prefix=prefix) as answer:
            home = answer.address
        home.missed_probes = 1
        with await known.ask(CHAT, b"{}", prefix=prefix, prefer=home) as answer:
            assert answer.address is not home


async def test_one_engine_needs_no_prefix(engine: ScriptedEngine) -> None:
    async with engines(engine.url) as known:
        assert known.prefix_of({"prompt": "Hi"}) is None
