"""Engines that hang: their processes are stopped, or the network drops every packet to them."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from orchestrator.engine import discovery as discovery_module
from orchestrator.engine.discovery import PROBE_EVERY_SECONDS, Discovery
from orchestrator.settings import Settings
from tests.support.live import Live, live, until
from tests.support.processes import Processes, Service
from tests.support.scripted_engine import (
    ScriptedEngine,
    after,
    call,
    chunk,
    scripted_engine,
    stream,
    text,
    whole,
)

CHAT = "/v1/chat/completions"
MATH = {"type": "function", "function": {"name": "calculate_math"}}
FAST = {
    "ENGINE_AFFINITY": "false",
    "ENGINE_PROBE_SECONDS": "0.1",
    "ENGINE_SILENT_SECONDS": "0.3",
    "ENGINE_REFRESH_SECONDS": "0.05",
    "ENGINE_WAIT_SECONDS": "0.3",
}
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # a classic BPF program, socket(7): accept 0 bytes
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27


@pytest.fixture
async def second() -> AsyncIterator[ScriptedEngine]:
    async with scripted_engine() as running:
        yield running


@pytest.fixture
def standin() -> Iterator[Service]:
    with Processes() as processes:
        service = processes.standin()
        yield service
        service.resume()


@contextlib.contextmanager
def blackholed(engine: ScriptedEngine) -> Iterator[None]:
    """Makes the kernel drop every packet to the engine, on open connections and new ones."""
    assert engine._server
    sockets = [writer.get_extra_info("socket") for writer in engine._writers] + list(engine._server.sockets)
    program = ctypes.create_string_buffer(DROP_ALL, len(DROP_ALL))
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))
    try:
        yield
    finally:
        for each in sockets:
            with contextlib.suppress(OSError):  # closed meanwhile
                each.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def state(server: Live, url: str) -> bool:
    """Whether the engine counts as up."""
    (found,) = [one for one in server.app._fleets.first.discovery.states() if url.endswith(one.engine)]
    return found.up


def content(answer: Any) -> Any:
    return answer.json()["choices"][0]["message"]["content"]


async def test_requests_to_a_stopped_process_are_answered_by_another_engine(
    standin: Service, second: ScriptedEngine
) -> None:
    second.otherwise = whole("second")
    async with live(standin.url, second.url, **FAST) as server:
        await until(lambda: state(server, standin.url) and state(server, second.url))
        standin.freeze()
        answers = await asyncio.gather(*(server.chat() for _ in range(20)))
    assert [content(answer) for answer in answers] == ["second"] * 20
    assert len(second.requests) == 20


@pytest.mark.parametrize("stream_it", [False, True])
@pytest.mark.parametrize("tools", [[], [MATH]])
async def test_requests_on_a_network_that_drops_packets_are_answered_by_another_engine(
    engine: ScriptedEngine, second: ScriptedEngine, tools: list[Any], stream_it: bool
) -> None:
    async with live(engine.url, second.url, **FAST) as server:
        await until(lambda: state(server, engine.url) and state(server, second.url))
        engine.otherwise = after(asyncio.Event(), whole("never"))
        waiting = asyncio.create_task(server.chat(stream=stream_it, tools=tools))
        await engine.arrived.wait()
        second.otherwise = stream(*text("second")) if stream_it else whole("second")
        with blackholed(engine):
            answer = await waiting
        assert answer.status_code == 200
        assert "second" in answer.text
        assert "engine_retries_total 1.0" in await server.metrics()


async def test_engine_that_hangs_is_down_within_five_seconds(standin: Service) -> None:
    """The limits are a tenth of the defaults, so the engine must be down after a tenth of the time."""
    settings = Settings.from_environment({})
    seconds = {
        "ENGINE_PROBE_SECONDS": str(settings.engine_probe_seconds / 10),
        "ENGINE_REFRESH_SECONDS": str(PROBE_EVERY_SECONDS / 10),
    }
    async with live(standin.url, **seconds) as server:
        await until(lambda: state(server, standin.url))
        standin.freeze()
        begun = time.monotonic()
        await until(lambda: not state(server, standin.url))
        took = time.monotonic() - begun
        standin.resume()
        await until(lambda: state(server, standin.url))
    assert took < 0.5


def test_default_settings_find_a_hung_engine_within_five_seconds() -> None:
    settings = Settings.from_environment({})
    latest_probe = min(PROBE_EVERY_SECONDS, settings.engine_refresh_seconds)
    assert latest_probe + 2 * settings.engine_probe_seconds < 4.5
    assert settings.engine_silent_seconds == 30


@pytest.mark.parametrize("tools", [[], [MATH]])
async def test_silent_stream_of_an_engine_that_is_down_ends_with_an_error(
    engine: ScriptedEngine, tools: list[Any]
) -> None:
    async with live(engine.url, **FAST) as server:
        await until(lambda: state(server, engine.url))
        engine.play(stream(*text("It "), asyncio.Event()))
        request = {"stream": True, "messages": [{"role": "user", "content": "x"}], "tools": tools}
        async with server.http.stream("POST", CHAT, json=request) as answer:
            lines = answer.aiter_lines()
            while "It " not in await anext(lines):
                pass
            with blackholed(engine):
                begun = time.monotonic()
                rest = [line async for line in lines if line]
                took = time.monotonic() - begun
    assert 0.2 < took < 2
    error = json.loads(rest[-1].removeprefix("data: "))["error"]
    assert error["code"] == "engine_failed"
    assert "does not answer" in error["message"]


async def test_streams_of_an_engine_that_is_up_may_be_silent(engine: ScriptedEngine) -> None:
    go_on = asyncio.Event()
    async with live(engine.url, **FAST) as server:
        await until(lambda: state(server, engine.url))
        engine.play(stream(*text("It "), go_on, *text("works")))
        streaming = asyncio.create_task(server.chat(stream=True))
        await engine.arrived.wait()
        probes = 0
        original = server.app._fleets.first.discovery._mark_up

        def count(address: Any) -> None:
            nonlocal probes
            probes += 1
            original(address)

        server.app._fleets.first.discovery._mark_up = count  # type: ignore[method-assign]
        await until(lambda: probes > 8)  # longer than ENGINE_SILENT_SECONDS
        go_on.set()
        assert "works" in (await streaming).text


async def test_stream_that_goes_on_proves_that_the_engine_is_alive(
    engine: ScriptedEngine, second: ScriptedEngine
) -> None:
    """The API server of a busy engine may be too busy for /health, but its streams move."""
    over = asyncio.Event()
    tokens = 0

    async def talk(exchange: Any) -> None:
        nonlocal tokens
        await exchange.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        while not over.is_set():
            await exchange.chunk(chunk({"content": "a"}))
            tokens += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 0.01)
        await exchange.chunk(b"data: [DONE]\n\n")
        await exchange.write(b"0\r\n\r\n")

    asked = 0

    async def hang(exchange: Any) -> None:
        nonlocal asked
        asked += 1
        await after(over, whole("late"))(exchange)

    async with live(engine.url, **FAST) as server:
        await until(lambda: state(server, engine.url))
        engine.play(talk)
        streaming = asyncio.create_task(server.chat(stream=True))
        await until(lambda: tokens > 2)
        engine.pages["/health"] = hang
        await until(lambda: asked > 4)
        assert state(server, engine.url)
        over.set()
        assert "[DONE]" in (await streaming).text


async def test_request_waits_while_the_only_engine_hangs_and_is_then_answered_by_it(
    standin: Service,
) -> None:
    async with live(standin.url, **FAST | {"ENGINE_SILENT_SECONDS": "20"}) as server:
        await until(lambda: state(server, standin.url))
        standin.freeze()
        waiting = asyncio.create_task(server.chat(model=None))
        await until(lambda: not state(server, standin.url))
        standin.resume()
        assert (await waiting).status_code == 200


async def test_request_to_the_only_engine_that_hangs_gets_a_503(standin: Service) -> None:
    async with live(standin.url, **FAST) as server:
        await until(lambda: state(server, standin.url))
        standin.freeze()
        answer = await server.chat(model=None)
    assert answer.status_code == 503
    assert "hangs" in answer.json()["error"]["message"]


async def test_request_that_hangs_every_engine_is_not_sent_forever(
    engine: ScriptedEngine, second: ScriptedEngine
) -> None:
    """A request that stops an engine must not be given to all the others in turn."""
    healthy = asyncio.Event()

    async def poison(exchange: Any) -> None:
        server_of = engine if exchange.request in engine.requests else second
        server_of.pages["/health"] = after(healthy, whole("late"))
        await after(healthy, whole("late"))(exchange)

    engine.otherwise = second.otherwise = poison
    async with live(engine.url, second.url, **FAST | {"ENGINE_WAIT_SECONDS": "5"}) as server:
        await until(lambda: state(server, engine.url) and state(server, second.url))
        asking = asyncio.create_task(server.chat())
        while not asking.done():
            for one in (engine, second):
                if not state(server, one.url):
                    one.pages.pop("/health", None)
            await asyncio.sleep(0.01)
        answer = await asking
        healthy.set()
    assert answer.status_code == 502
    assert len(engine.requests) + len(second.requests) == 3


async def test_engine_that_leaves_the_name_while_it_hangs_is_still_watched(
    engine: ScriptedEngine, second: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Service discovery removes an engine that fails its health checks while requests wait for it."""
    hosts = ["127.0.0.1"]

    async def lookup(name: str, port: int) -> list[str]:
        return list(hosts)

    monkeypatch.setattr(discovery_module, "lookup", lookup)
    url = f"http://engine.internal:{engine.port}"
    async with live(url, second.url.replace("127.0.0.1", "localhost"), **FAST) as server:
        known = server.app._fleets.first.discovery
        await until(lambda: len(known.up()) == 2)
        engine.otherwise = second.otherwise = after(asyncio.Event(), whole("never"))
        waiting = asyncio.create_task(server.chat())
        await until(lambda: bool(engine.running or second.running))
        hung, other = (engine, second) if engine.running else (second, engine)
        other.otherwise = whole("other")
        (address,) = [one for one in known.up() if one.label.endswith(f":{hung.port}")]
        key = next(key for key, value in known._addresses.items() if value is address)
        with blackholed(hung):
            # Only this name stops resolving to it.
            known._urls = [one for one in known._urls if one.netloc != key[0]]
            await until(lambda: address.gone)
            assert content(await waiting) == "other"
        await until(lambda: not known._leaving)


async def test_hung_engine_loses_the_rounds_of_a_tool_loop(
    engine: ScriptedEngine, second: ScriptedEngine
) -> None:
    """The first round is not asked again: only the round without an answer moves."""
    async with live(engine.url, second.url, **FAST) as server:
        await until(lambda: state(server, engine.url) and state(server, second.url))
        first = whole(calls=[call("calculate_math", {"expression": "1+1"})])
        for one in (engine, second):
            one.play(first, after(asyncio.Event(), whole("never")))
        waiting = asyncio.create_task(server.chat(tools=[MATH]))
        await until(lambda: 2 in (len(engine.requests), len(second.requests)))
        hung, other = (engine, second) if engine.requests else (second, engine)
        other.replies.clear()
        other.play(whole("two"))
        with blackholed(hung):
            assert content(await waiting) == "two"
    assert [message["role"] for message in other.requests[0].json["messages"]] == [
        "user",
        "assistant",
        "tool",
    ]


async def test_connections_to_engines_have_keep_alive_and_a_limit_for_unacknowledged_data(
    engine: ScriptedEngine,
) -> None:
    discovery = Discovery([engine.url], api_key=None, connect_seconds=1, refresh_seconds=60)
    await discovery.start()
    try:
        await until(lambda: bool(discovery.up()[0].idle))
        (connection, *_) = discovery.up()[0].idle
        assert connection._transport
        used = connection._transport.get_extra_info("socket")
        assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, interval, count = (
            used.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + interval * count <= 30
        assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
    finally:
        await discovery.close()
