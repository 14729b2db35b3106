"""The address of one engine: the connections that it keeps and the requests that it counts."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.connection import ConnectionBroken
from orchestrator.engine.address import Address, Response, StaleConnection
from orchestrator.errors import EngineBroke
from orchestrator.memory import Budget
from tests.support.scripted_engine import CUT, ScriptedEngine, after, body, cut, stream, text, whole

CHAT = "/v1/chat/completions"


def address_of(engine: ScriptedEngine, *, connect_seconds: float = 1, authority: str = "engine") -> Address:
    return Address(
        "127.0.0.1", engine.port, authority=authority, name="engine", tls=None,
        connect_seconds=connect_seconds, budget=Budget(1_000_000_000), max_answer_bytes=1_000_000,
        headers=(b"X-From: test\r\n",),
    )  # fmt: skip


async def _read_all(response: Response) -> None:
    while await response.read():
        pass


async def test_request_has_host_request_id_and_the_given_headers(engine: ScriptedEngine) -> None:
    engine.play(whole("ok"))
    address = address_of(engine, authority="vllm.example:8000")
    with await address.post(CHAT, b'{"a": 1}', "X-Request-Id: r-1\r\n") as response:
        assert response.status == 200
        assert b"ok" in await response.read()
        assert await response.read() == b""
    (request,) = engine.requests
    assert (request.path, request.body) == (CHAT, b'{"a": 1}')
    assert request.headers["host"] == "vllm.example:8000"
    assert request.headers["x-request-id"] == "r-1"
    assert request.headers["x-from"] == "test"


async def test_only_requests_of_clients_are_counted_until_the_response_is_closed(
    engine: ScriptedEngine,
) -> None:
    address = address_of(engine)
    held = asyncio.Event()
    engine.play(after(held, whole("ok")))
    asking = asyncio.create_task(address.post(CHAT, b"{}"))
    await engine.arrived.wait()
    assert address.in_flight == 1
    with await address.get("/health") as health:
        assert (health.status, address.in_flight) == (200, 1)
    held.set()
    with await asking:
        assert address.in_flight == 1
    assert address.in_flight == 0


async def test_failed_request_is_no_longer_counted(engine: ScriptedEngine) -> None:
    address = address_of(engine)
    engine.play(cut())
    with pytest.raises(ConnectionBroken):
        await address.post(CHAT, b"{}")
    await engine.stop()
    with pytest.raises(ConnectionRefusedError):
        await address.post(CHAT, b"{}")
    assert address.in_flight == 0
    await engine.start(engine.port)


async def test_cancelled_request_is_no_longer_counted_and_closes_its_connection(
    engine: ScriptedEngine,
) -> None:
    address = address_of(engine)
    engine.play(after(asyncio.Event(), whole("never")))
    asking = asyncio.create_task(address.post(CHAT, b"{}"))
    await engine.arrived.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (address.in_flight, address.idle) == (0, [])
    await asyncio.wait_for(engine.aborted.wait(), 5)


async def test_connection_is_kept_only_after_the_whole_body_was_read(engine: ScriptedEngine) -> None:
    address = address_of(engine)
    engine.play(whole("1"), whole("2"), stream(*text("3"), asyncio.Event()))
    for _ in range(2):
        with await address.post(CHAT, b"{}"):
            pass
        assert len(address.idle) == 1
    with await address.post(CHAT, b'{"stream": true}', whole=False) as response:
        assert response.is_stream
    assert address.idle == []


async def test_connection_to_a_removed_address_is_not_kept(engine: ScriptedEngine) -> None:
    address = address_of(engine)
    engine.play(whole("1"))
    with await address.post(CHAT, b"{}"):
        address.gone = True
    assert address.idle == []


async def test_idle_connections_are_dropped_by_age(engine: ScriptedEngine) -> None:
    address = address_of(engine)
    with await address.get("/health"):
        pass
    address.drop_old()
    assert len(address.idle) == 1
    address.drop_idle()
    assert address.idle == []


async def test_kept_connection_that_breaks_before_an_answer_is_stale(engine: ScriptedEngine) -> None:
    address = address_of(engine)
    engine.play(whole("1"), cut())
    with await address.post(CHAT, b"{}"):
        pass
    with pytest.raises(StaleConnection):
        await address.post(CHAT, b"{}")


async def test_broken_stream_is_reported_as_a_failure_of_the_engine(engine: ScriptedEngine) -> None:
    engine.play(stream(*text("half"), CUT))
    with await address_of(engine).post(CHAT, b'{"stream": true}', whole=False) as response:
        reading = asyncio.create_task(_read_all(response))
        with pytest.raises(EngineBroke, match="broke before its answer was complete"):
            await reading


async def test_error_with_the_content_type_of_a_stream_is_read_whole(engine: ScriptedEngine) -> None:
    engine.play(body(b"no", 400, content_type="text/event-stream"))
    with await address_of(engine).post(CHAT, b"{}", whole=False) as response:
        assert not response.is_stream
        assert response.complete
