"""Usage by day, key and model, with estimates of requests that were cut off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.limits.usage import Usage, day_of, shown
from orchestrator.record import Record
from tests.support.live import live, until
from tests.support.scripted_engine import ScriptedEngine, after, call, cut, stream, text, whole


def ended(**fields: Any) -> Record:
    return Record("r", "/v1/chat/completions", **{"key_name": "alice", "model": "m", "status": 200, **fields})


def test_rows_by_day_key_and_model() -> None:
    moment = [0.0]
    usage = Usage(now=lambda: moment[0])
    usage.count(ended(prompt_tokens=10, completion_tokens=2, cached_tokens=8, tools=["a", "b"]))
    usage.count(ended(prompt_tokens=1))
    usage.count(ended(key_name="bob"))
    moment[0] = 86_400.0
    usage.count(ended(model="n", engine_seconds=0.12345))
    rows = {key: (use.requests, use.prompt_tokens, use.tool_calls) for key, use in usage.rows()}
    assert rows == {
        ("1970-01-01", "alice", "m"): (2, 11, 2),
        ("1970-01-01", "bob", "m"): (1, 0, 0),
        ("1970-01-02", "alice", "n"): (1, 0, 0),
    }
    assert usage.changed == set(rows)
    key = ("1970-01-02", "alice", "n")
    use = usage.row(key)
    assert use is not None
    assert shown(key, use) == {
        "day": "1970-01-02", "key": "alice", "model": "n", "requests": 1, "prompt_tokens": 0,
        "completion_tokens": 0, "cached_tokens": 0, "tool_calls": 0, "engine_seconds": 0.123, "estimated": 0,
    }  # fmt: skip


def test_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.limits.usage._ROWS_PER_DAY", 3)
    moment = [0.0]
    usage = Usage(now=lambda: moment[0])
    for number in range(10):
        usage.count(ended(model=f"m{number}"))
    assert sorted((name, model, use.requests) for (_, name, model), use in usage.rows()) == [
        ("alice", "m0", 1), ("alice", "m1", 1), ("alice", "m2", 1), ("other", "other", 7),
    ]  # fmt: skip
    for day in range(40):
        moment[0] = day * 86_400.0
        usage.count(ended())
    assert len({key[0] for key, _ in usage.rows()}) == 31
    assert day_of(39 * 86_400.0) in {key[0] for key, _ in usage.rows()}


def test_stream_that_was_cut_off_is_estimated_from_earlier_ones() -> None:
    usage = Usage()
    for _ in range(200):
        usage.count(ended(prompt_tokens=50, completion_tokens=10, reported_bytes=1000, answer_seconds=2.0))
    streamed = ended(status=499, stream=True, unreported_bytes=2000, unreported_seconds=1.0, events=7)
    usage.count(streamed)
    assert (streamed.prompt_tokens, streamed.completion_tokens) == (100, 7)
    waited = ended(status=504, unreported_bytes=2000, unreported_seconds=3.0)
    usage.count(waited)
    assert (waited.prompt_tokens, waited.completion_tokens) == (100, 15)
    [(_, use)] = usage.rows()
    assert use.estimated == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 499, "stream": True, "unreported_bytes": 100, "unreported_seconds": 9.0},  # no first event
        {"status": 502, "unreported_bytes": 100, "unreported_seconds": 9.0},
        {"status": 400, "unreported_bytes": 100, "unreported_seconds": 9.0},
        {"status": 499, "unreported_bytes": 0, "events": 3},
    ],
)
def test_request_that_no_engine_worked_for_is_not_estimated(fields: dict[str, Any]) -> None:
    usage = Usage()
    record = ended(**fields)
    usage.count(record)
    assert record.tokens == 0


async def rows_of(usage: Usage) -> dict[str, tuple[int, int, int, int, int]]:
    return {
        f"{name}/{model}": (
            use.requests,
            use.prompt_tokens,
            use.completion_tokens,
            use.tool_calls,
            use.estimated,
        )
        for (_, name, model), use in usage.rows()
    }


async def test_relayed_and_looped_answers_are_counted_once(engine: ScriptedEngine) -> None:
    tools = [{"type": "function", "function": {"name": "calculate_math"}}]
    one_call = [call("calculate_math", {"expression": "1+1"})]
    async with live(engine.url) as server:
        engine.play(whole("a"), stream(*text("b")), stream(*text("c"), usage=(3, 4)), whole("d"))
        await server.chat()
        await server.chat(stream=True)
        await server.chat(stream=True, stream_options={"include_usage": True})
        await server.http.post("/v1/embeddings", json={"model": "scripted", "input": "x"})
        engine.play(whole(calls=one_call, usage=(20, 6)), whole("2", usage=(30, 2)))
        await server.chat(tools=tools)
        metrics = await server.metrics()
        usage = server.app._usage
    assert await rows_of(usage) == {"-/scripted": (5, 10 + 10 + 3 + 10 + 50, 5 + 5 + 4 + 5 + 8, 1, 0)}
    assert 'engine_seconds_total{key_name="-",model="scripted"}' in metrics


async def test_cancelled_streams_are_estimated(engine: ScriptedEngine) -> None:
    """In the relay and in the loop: the prompt by its size, the answer by its events."""
    never = asyncio.Event()
    tools = [{"type": "function", "function": {"name": "calculate_math"}}]
    async with live(engine.url) as server:
        for extra in ({}, {"tools": tools}):
            engine.play(stream(*text("a", "b", "c", "d"), never))
            async with server.http.stream(
                "POST",
                "/v1/chat/completions",
                json={
                    "model": "scripted",
                    "stream": True,
                    "messages": [{"role": "user", "content": "x" * 400}],
                    **extra,
                },
            ) as answer:
                async for line in answer.aiter_lines():
                    if '"d"' in line:
                        break
        await until(lambda: len(server.app.in_flight) == 0)
        rows = await rows_of(server.app._usage)
        sent = [len(request.body) for request in engine.requests]
    (requests, prompt, completion, _, estimated) = rows["-/scripted"]
    assert (requests, estimated) == (2, 2)
    assert prompt == sum(round(size / 4) for size in sent)
    assert 8 <= completion <= 10


async def test_client_that_leaves_before_the_answer_is_estimated_by_time(engine: ScriptedEngine) -> None:
    engine.otherwise = after(asyncio.Event(), whole("never"))
    async with live(engine.url) as server:
        leaving = asyncio.create_task(server.chat())
        await engine.arrived.wait()
        leaving.cancel()
        await engine.aborted.wait()
        await until(lambda: len(server.app.in_flight) == 0)
        rows = await rows_of(server.app._usage)
    assert rows == {"-/-": (1, round(len(engine.requests[0].body) / 4), 0, 0, 1)}


async def test_attempts_that_break_before_an_answer_count_nothing(engine: ScriptedEngine) -> None:
    async with live(engine.url) as server:
        engine.play(cut(), whole("ok"))
        assert (await server.chat()).status_code == 200
        rows = await rows_of(server.app._usage)
    assert rows == {"-/scripted": (1, 10, 5, 0, 0)}
