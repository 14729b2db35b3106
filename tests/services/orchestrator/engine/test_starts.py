"""Starts of engines on demand: streams wait, other requests get a 503 with a Retry-After."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from orchestrator.engine import client
from orchestrator.engine.starts import RETRY_AFTER_AT_MOST, Starts
from orchestrator.telemetry import Record
from tests.support.live import events_of, live, text_of, until
from tests.support.scripted_engine import (
    Exchange,
    ScriptedEngine,
    after,
    body,
    call,
    stream,
    text,
    whole,
)

MATH = {"type": "function", "function": {"name": "calculate_math"}}
ON_DEMAND = {"ENGINE_STARTUP_SECONDS": "20", "ENGINE_WAIT_SECONDS": "0"}


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def retry_after(starts: Starts) -> int:
    return int(starts.turn_away().headers["retry-after"])


def test_start_is_measured_from_the_first_request_to_the_engine() -> None:
    clock = Clock()
    starts = Starts(50, clock=clock)
    assert not starts.under_way
    assert retry_after(starts) == 50  # nothing is known yet, so it is the limit
    for took in (30, 20, 40):
        starts.turn_away()
        clock.now += took - 5
        starts.turn_away()
        assert starts.under_way
        clock.now += 5
        starts.came_up()
        assert not starts.under_way
    assert starts.expected_seconds == 30
    assert retry_after(starts) == 30
    clock.now += 12
    assert retry_after(starts) == 18
    clock.now += 30  # longer than usual, but not over
    assert retry_after(starts) == 1


def test_only_the_last_starts_count() -> None:
    clock = Clock()
    starts = Starts(900, clock=clock)
    for took in (500, 500, 500, 100, 100, 100, 100, 100):
        starts.turn_away()
        clock.now += took
        starts.came_up()
    assert starts.expected_seconds == 100


def test_start_that_failed_is_forgotten() -> None:
    clock = Clock()
    starts = Starts(50, clock=clock)
    starts.turn_away()
    clock.now += 3600
    assert not starts.under_way
    assert retry_after(starts) == 50
    clock.now += 10
    starts.came_up()
    assert starts.expected_seconds == 10


def test_engine_that_comes_up_unasked_teaches_nothing() -> None:
    starts = Starts(50)
    starts.came_up()
    assert starts.expected_seconds == 50


def test_retry_after_is_one_that_openai_clients_accept() -> None:
    starts = Starts(900)
    error = starts.turn_away()
    assert int(error.headers["retry-after"]) == RETRY_AFTER_AT_MOST
    assert "about 900 s remain" in error.message
    answer: Any = httpx.Response(503, headers=error.headers)
    openai_client = openai.OpenAI(api_key="none")
    assert openai_client._should_retry(answer)
    assert openai_client._calculate_retry_timeout(2, _options(), answer.headers) == 60


def _options() -> openai._models.FinalRequestOptions:
    return openai._models.FinalRequestOptions(method="post", url="/")


def test_requests_are_counted_as_held_or_as_unmet() -> None:
    starts = Starts(50)
    record = Record("r", "/v1/completions")
    with starts.hold(record):
        assert (starts.held, starts.unmet) == (1, 0)
    assert (starts.held, starts.unmet) == (0, 0)
    with pytest.raises(asyncio.CancelledError), starts.hold(record):
        raise asyncio.CancelledError
    starts.turn_away()
    assert (starts.held, starts.unmet) == (0, 2)
    assert record.held_seconds > 0


@pytest.mark.parametrize("tools", [None, [MATH]], ids=["relay", "tool loop"])
async def test_stream_is_held_until_an_engine_starts(
    asleep: ScriptedEngine, tools: list[object] | None
) -> None:
    fields = {"tools": tools} if tools else {}
    async with live(asleep.url, HEARTBEAT_SECONDS="0.05", **ON_DEMAND) as server:
        asleep.play(stream(*text("awake")))
        received = b""
        async with server.http.stream("POST", "/v1/chat/completions", json=_question(**fields)) as answer:
            async for piece in answer.aiter_raw():
                received += piece
                if received.count(b": keep-alive\n") == 3 and asleep._server and not asleep.requests:
                    assert server.app._fleets.first.discovery.starts.held == 1
                    await asleep.start(asleep.port)
        events = events_of(received.decode())
        assert text_of(events) == "awake"
        assert events[-1] == "[DONE]"
        assert (
            server.app._fleets.first.discovery.starts.held,
            server.app._fleets.first.discovery.starts.unmet,
        ) == (0, 0)
        assert len(asleep.requests) == 1


async def test_other_requests_are_turned_away_at_once(asleep: ScriptedEngine) -> None:
    async with live(asleep.url, **ON_DEMAND) as server:
        answers = [
            await server.chat(),
            await server.chat(tools=[MATH]),
            await server.http.post("/v1/embeddings", json={"model": "m", "input": "x"}),
        ]
        assert [answer.status_code for answer in answers] == [503] * 3
        for answer in answers:
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert (error["code"], error["type"]) == ("engine_starting", "service_unavailable_error")
            assert "may take up to 20 s" in error["message"]
            assert 18 <= int(answer.headers["retry-after"]) <= 20
        assert server.app._fleets.first.discovery.starts.unmet == 3
        await asleep.start(asleep.port)
        await until(lambda: server.app._fleets.first.discovery.state() == "ready")
        asleep.otherwise = whole("awake")
        assert (await server.chat()).status_code == 200
        await asleep.stop()
        await until(lambda: server.app._fleets.first.discovery.state() == "sleeping")
        learned = await server.chat()
        assert "usually takes" in learned.json()["error"]["message"]
        assert int(learned.headers["retry-after"]) < 18


async def test_stream_ends_with_an_error_if_no_engine_starts(asleep: ScriptedEngine) -> None:
    async with live(asleep.url, ENGINE_STARTUP_SECONDS="0.3", HEARTBEAT_SECONDS="5") as server:
        answer = await server.chat(stream=True)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "60"
        assert "within 0.3 s (ENGINE_STARTUP_SECONDS)" in answer.json()["error"]["message"]
        assert server.app._fleets.first.discovery.starts.unmet == 1
    async with live(asleep.url, ENGINE_STARTUP_SECONDS="0.3", HEARTBEAT_SECONDS="0.1") as server:
        events = events_of((await server.chat(stream=True)).text)
        assert isinstance(events[-1], dict)
        assert events[-1]["error"]["code"] == "engine_unavailable"


async def test_deadline_of_a_stream_starts_when_an_engine_takes_it(asleep: ScriptedEngine) -> None:
    limits = {"REQUEST_TIMEOUT_SECONDS": "0.6", "HEARTBEAT_SECONDS": "0.1"}
    async with live(asleep.url, **ON_DEMAND, **limits) as server:
        generating = asyncio.Event()
        asleep.play(stream(*text("a"), generating, *text("wake")), stream(*text("slow"), asyncio.Event()))
        asking = asyncio.create_task(server.chat_events())
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await until(lambda: loop.time() - begun > 1.2)
        await asleep.start(asleep.port)
        await until(lambda: bool(asleep.requests))
        taken = loop.time()
        await until(lambda: loop.time() - taken > 0.3)
        generating.set()
        assert text_of(await asking) == "awake"
        late = await server.chat_events()
        assert isinstance(late[-1], dict)
        assert late[-1]["error"]["code"] == "deadline_exceeded"


async def test_held_streams_count_as_in_flight_until_their_clients_leave(asleep: ScriptedEngine) -> None:
    async with live(asleep.url, MAX_IN_FLIGHT="2", HEARTBEAT_SECONDS="0.05", **ON_DEMAND) as server:
        starts, budget = server.app._fleets.first.discovery.starts, server.app.in_flight.budget
        held = [asyncio.create_task(server.chat("x" * 10_000, stream=True)) for _ in range(2)]
        await until(lambda: starts.held == 2)
        assert budget.used > 20_000
        refused = await server.chat(stream=True)
        assert refused.status_code == 429
        for task in held:
            task.cancel()
        await until(lambda: starts.held == 0)
        assert (budget.used, starts.unmet) == (0, 2)
        asleep.play(stream(*text("awake")))
        last = asyncio.create_task(server.chat_events())
        await until(lambda: starts.held == 1)
        await asleep.start(asleep.port)
        assert text_of(await last) == "awake"
        assert len(asleep.requests) == 1


async def test_herd_of_held_streams_is_answered_by_the_first_engine(asleep: ScriptedEngine) -> None:
    async with live(asleep.url, **ON_DEMAND) as server:
        asleep.otherwise = stream(*text("awake"))
        asking = [asyncio.create_task(server.chat_events()) for _ in range(60)]
        await until(lambda: server.app._fleets.first.discovery.starts.held == 60)
        await asleep.start(asleep.port)
        assert {text_of(events) for events in await asyncio.gather(*asking)} == {"awake"}
        assert len(asleep.requests) == 60


async def test_herd_that_the_first_engine_cannot_take_at_once_waits_on(asleep: ScriptedEngine) -> None:
    async with live(asleep.url, **ON_DEMAND) as server:
        may_end = asyncio.Event()
        answer = stream(*text("a"), may_end, *text("wake"))

        async def full_after_four(exchange: Exchange) -> None:
            busy = asleep.running > 4
            await (body({"error": {"message": "queue is full"}}, 503) if busy else answer)(exchange)

        asleep.otherwise = full_after_four
        asking = [asyncio.create_task(server.chat_events()) for _ in range(12)]
        starts = server.app._fleets.first.discovery.starts
        await until(lambda: starts.held == 12)
        await asleep.start(asleep.port)
        await until(lambda: asleep.running >= 4 and len(asleep.requests) > 30)  # the others ask again
        assert starts.held >= 7
        assert starts.expected_seconds < 20
        may_end.set()
        assert {text_of(events) for events in await asyncio.gather(*asking)} == {"awake"}
        assert (starts.held, starts.unmet) == (0, 0)


async def test_stream_that_meets_an_engine_that_is_being_stopped_waits_for_the_next(
    engine: ScriptedEngine,
) -> None:
    async with live(engine.url, **ON_DEMAND) as server:
        await until(lambda: server.app._fleets.first.discovery.state() == "ready")
        engine.play(body({"error": {"message": "shutting down"}}, 503))
        engine.otherwise = body({"error": {"message": "shutting down"}}, 503)
        asking = asyncio.create_task(server.chat_events())
        await until(lambda: bool(engine.requests))
        await engine.stop()
        await until(lambda: server.app._fleets.first.discovery.state() == "starting")
        engine.replies.clear()
        engine.otherwise = stream(*text("awake"))
        await engine.start(engine.port)
        assert text_of(await asking) == "awake"


async def test_stream_that_meets_a_busy_engine_gets_its_error(
    engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_STOPPING_SECONDS", 0.2)
    async with live(engine.url, **ON_DEMAND) as server:
        await until(lambda: server.app._fleets.first.discovery.state() == "ready")
        engine.otherwise = body({"error": {"message": "queue is full"}}, 503)
        answer = await server.chat(stream=True)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
        whole_answer = await server.chat()
        assert whole_answer.status_code == 503
        assert 2 < len(engine.requests) < 15


async def test_second_round_waits_for_an_engine_too(engine: ScriptedEngine) -> None:
    async with live(engine.url, HEARTBEAT_SECONDS="0.05", **ON_DEMAND) as server:
        called = asyncio.Event()
        engine.play(after(called, whole(calls=[call("calculate_math", {"expression": "6*7"})])))
        asking = asyncio.create_task(server.chat_events(tools=[MATH]))
        await until(lambda: bool(engine.requests))
        await engine.stop()
        await until(lambda: server.app._fleets.first.discovery.starts.held == 1)
        engine.replies.clear()
        engine.play(stream(*text("It is 42.")))
        await engine.start(engine.port)
        assert text_of(await asking) == "It is 42."


def _question(**fields: object) -> dict[str, object]:
    return {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}], **fields}


async def test_held_seconds_are_logged_and_do_not_count_as_time_to_first_token(
    asleep: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    async with live(asleep.url, **ON_DEMAND) as server:
        asleep.play(stream(*text("awake")))
        with caplog.at_level("INFO", logger="orchestrator"):
            asking = asyncio.create_task(server.chat_events())
            loop = asyncio.get_running_loop()
            await until(lambda: server.app._fleets.first.discovery.starts.held == 1)
            begun = loop.time()
            await until(lambda: loop.time() - begun > 0.5)
            await asleep.start(asleep.port)
            await asking
            await until(lambda: any(hasattr(record, "fields") for record in caplog.records))
    fields: list[dict[str, Any]] = [getattr(record, "fields", {}) for record in caplog.records]
    (line,) = [one for one in fields if "held_seconds" in one]
    assert line["held_seconds"] > 0.5
    assert line["first_token_seconds"] < 0.5
    assert json.dumps(line)
