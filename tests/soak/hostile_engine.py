"""An engine that does anything but answer properly, each time something else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable

from tests.support.scripted_engine import (
    Exchange,
    ScriptedEngine,
    body,
    call,
    call_deltas,
    chunk,
    stream,
    text,
    whole,
)

_KEEP_SECONDS = 8.0
_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_BLOCK = b"a" * 262_144

Behaviour = Callable[[Exchange, random.Random], Awaitable[None]]


async def _repeat(exchange: Exchange, head: bytes, first: bytes, again: bytes) -> None:
    """Sends `again` until the client leaves, for some seconds."""
    await exchange.write(head)
    await exchange.chunk(first)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_KEEP_SECONDS):
            while not exchange.left.is_set():
                await exchange.chunk(again)
                await asyncio.sleep(0)
    exchange.writer.transport.abort()


async def _proper(exchange: Exchange, random_: random.Random) -> None:
    streaming = exchange.request.json.get("stream")
    model = f"model-{random_.getrandbits(64)}"
    reply = stream(*text("fine " * 10)) if streaming else body({"model": model, **_answer("fine")})
    await reply(exchange)


def _answer(content: str) -> dict[str, object]:
    message = {"role": "assistant", "content": content}
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


async def _endless_stream(exchange: Exchange, _: random.Random) -> None:
    piece = chunk({"content": "x" * 60_000})
    await _repeat(exchange, _STREAM, chunk({"role": "assistant", "content": ""}), piece)


async def _endless_small_chunks(exchange: Exchange, _: random.Random) -> None:
    await _repeat(exchange, _STREAM, chunk({"role": "assistant"}), chunk({"content": "<tool_call>"}) * 200)


async def _endless_event(exchange: Exchange, _: random.Random) -> None:
    await _repeat(exchange, _STREAM, b'data: {"choices":[{"delta":{"content":"', _BLOCK)


async def _endless_answer(exchange: Exchange, _: random.Random) -> None:
    await _repeat(exchange, _JSON, b'{"choices":[{"message":{"content":"', _BLOCK)


async def _endless_arguments(exchange: Exchange, _: random.Random) -> None:
    first, *_rest = call_deltas("query_database", "{")
    more = {"tool_calls": [{"index": 0, "function": {"arguments": "9" * 60_000}}]}
    await _repeat(exchange, _STREAM, chunk(first), chunk(more))


async def _many_calls(exchange: Exchange, random_: random.Random) -> None:
    calls = [
        call("calculate_math", {"expression": f"{number}*{random_.random()}"}, f"c{number}")
        for number in range(5000)
    ]
    await whole(calls=calls)(exchange)


async def _wide_rows(exchange: Exchange, random_: random.Random) -> None:
    calls = [
        call("query_database", {"table": "wide", "limit": random_.randint(1, 100)}, f"c{number}")
        for number in range(8)
    ]
    streaming = exchange.request.json.get("stream")
    if streaming:
        await stream(*call_deltas("query_database", '{"table": "wide"}'), finish="tool_calls")(exchange)
    else:
        await whole(calls=calls)(exchange)


async def _nested_answer(exchange: Exchange, random_: random.Random) -> None:
    depth = random_.choice([500, 5_000_000])
    await body(b'{"choices":' + b"[" * depth + b"]" * depth + b"}")(exchange)


async def _many_values(exchange: Exchange, random_: random.Random) -> None:
    await body(b'{"x":[' + random_.choice([b"[],", b"{},", b"1,"]) * 20_000_000 + b"1]}")(exchange)


async def _large_answer(exchange: Exchange, random_: random.Random) -> None:
    await body(json.dumps(_answer("\u20ac" * random_.randint(1, 8_000_000))).encode())(exchange)


async def _large_head(exchange: Exchange, _: random.Random) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\n" + b"x-a: " + _BLOCK * 16 + b"\r\n")
    await _repeat(exchange, b"", b"x-b: 1", _BLOCK)


async def _silence(exchange: Exchange, _: random.Random) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(exchange.left.wait(), _KEEP_SECONDS)
    exchange.writer.transport.abort()


async def _break(exchange: Exchange, _: random.Random) -> None:
    await exchange.write(_STREAM)
    exchange.writer.transport.abort()


BEHAVIOURS: tuple[Behaviour, ...] = (
    _proper, _proper, _endless_stream, _endless_small_chunks, _endless_event, _endless_answer,
    _endless_arguments, _many_calls, _wide_rows, _wide_rows, _nested_answer, _many_values, _large_answer,
    _large_head, _silence, _break,
)  # fmt: skip


def make_hostile(engine: ScriptedEngine, seed: int) -> None:
    """Lets the engine choose one of the behaviours for each request."""
    choices = random.Random(seed)

    async def reply(exchange: Exchange) -> None:
        with contextlib.suppress(ConnectionError):
            await choices.choice(BEHAVIOURS)(exchange, choices)

    engine.otherwise = reply


def make_proper(engine: ScriptedEngine) -> None:
    choices = random.Random(0)

    async def reply(exchange: Exchange) -> None:
        await _proper(exchange, choices)

    engine.otherwise = reply
