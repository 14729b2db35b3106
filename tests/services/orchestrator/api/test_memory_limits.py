"""What requests and answers take of the memory, over the wire: a budget for all, and back to nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from orchestrator.memory import Budget
from tests.support.live import Live, live, until
from tests.support.scripted_engine import Exchange, ScriptedEngine, body, chunk, text, whole
from tests.support.scripted_engine import stream as stream_of

MATH: Any = {"type": "function", "function": {"name": "calculate_math"}}
MESSAGES = [{"role": "user", "content": "Hi"}]
BUDGET = 20_000_000


@contextlib.asynccontextmanager
async def limited(engine: ScriptedEngine, **environment: str) -> AsyncIterator[tuple[Live, Budget]]:
    async with live(engine.url, MEMORY_BUDGET_BYTES=str(BUDGET), **environment) as server:
        budget = server.server.in_flight.budget
        yield server, budget
        await until(lambda: budget.used == 0)


def payload(size: int, **fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": MESSAGES, "x": "a" * size, **fields}).encode()


async def post(server: Live, content: Any) -> httpx.Response:
    return await server.http.post("/v1/chat/completions", content=content)


@pytest.mark.parametrize("tools", [None, [MATH]])
async def test_bodies_beyond_the_budget_are_turned_away(engine: ScriptedEngine, tools: Any) -> None:
    async with limited(engine) as (server, budget):
        engine.otherwise = whole("Hi")
        answer = await post(server, payload(7_000_000, tools=tools))
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "memory_budget"
        assert answer.headers["retry-after"]
        assert (await post(server, payload(1_000_000, tools=tools))).status_code == 200
        await until(lambda: budget.used == 0)


async def test_bodies_that_never_end_take_their_part(engine: ScriptedEngine) -> None:
    async with limited(engine) as (server, budget):
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n"
        writers, answers = [], []
        for _ in range(4):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(head + b" " * 6_000_000)
            writers.append(writer)
            answers.append(asyncio.create_task(reader.readline()))
        await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        assert {await answer for answer in answers if answer.done()} == {
            b"HTTP/1.1 429 Too Many Requests\r\n"
        }
        assert budget.used <= BUDGET
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*answers, return_exceptions=True)
        await until(lambda: budget.used == 0)


async def test_too_many_values_are_a_400(engine: ScriptedEngine) -> None:
    async with limited(engine, MAX_JSON_VALUES="10000") as (server, _):
        bomb = b'{"messages": [{}], "x": [' + b",".join([b"[]"] * 200_000) + b"]}"
        answer = await post(server, bomb)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_values")


async def test_relayed_body_is_given_back_while_the_answer_streams(engine: ScriptedEngine) -> None:
    async with limited(engine) as (server, budget):
        more = asyncio.Event()
        engine.play(stream_of(*text("Hi"), more, *text(" there")))
        asked = asyncio.create_task(post(server, payload(1_000_000, stream=True)))
        await until(lambda: bool(engine.requests) and budget.used == 0)
        more.set()
        assert "there" in (await asked).text


@pytest.mark.parametrize("tools", [None, [MATH]])
async def test_endless_whole_answer_is_a_502(engine: ScriptedEngine, tools: Any) -> None:
    async with limited(engine, MAX_ANSWER_BYTES="1000000") as (server, _):
        engine.play(body(b'{"choices": ["' + b"a" * 2_000_000 + b'"]}'))
        answer = await server.chat(tools=tools)
        assert answer.status_code == 502
        assert "1,000,000 bytes (MAX_ANSWER_BYTES)" in answer.json()["error"]["message"]


async def test_endless_stream_ends_the_loop(engine: ScriptedEngine) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        piece = chunk({"content": "a" * 500_000})
        with contextlib.suppress(ConnectionError):
            while True:
                await exchange.chunk(piece)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with limited(engine) as (server, _):
        engine.play(endless)
        events = await server.chat_events(tools=[MATH])
        assert isinstance(events[-1], dict)
        assert "characters" in events[-1]["error"]["message"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


async def test_more_calls_than_a_turn_may_have_are_left_out(engine: ScriptedEngine) -> None:
    async with limited(engine) as (server, _):
        calls = [
            {"id": f"c{n}", "type": "function", "function": {"name": "calculate_math", "arguments": "{}"}}
            for n in range(1000)
        ]
        engine.play(whole(calls=calls), whole("Done."))
        answer = await server.chat(tools=[MATH])
        assert answer.json()["choices"][0]["message"]["content"] == "Done."
        history = engine.requests[1].json["messages"]
        assert len(history[1]["tool_calls"]) == len(history) - 2 == 128
