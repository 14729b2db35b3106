"""Heartbeats are invisible to the decoders of event streams in use; see decision 19 for all of them.

node/decoders.test.mjs has those of Node.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource
from openai._streaming import SSEDecoder

from orchestrator.api.reply import HEARTBEAT
from tests.support.live import live
from tests.support.scripted_engine import ScriptedEngine, after, call_deltas, stream, text

MATH = {"type": "function", "function": {"name": "calculate_math"}}


def openai_python(pieces: list[bytes]) -> Iterator[str]:
    """Decodes as the official openai package for Python."""
    for event in SSEDecoder().iter_bytes(iter(pieces)):
        yield event.data


def httpx_sse(pieces: list[bytes]) -> Iterator[str]:
    """Decodes with httpx-sse, which the official MCP SDK uses."""
    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=iter(pieces))
    for event in EventSource(answer).iter_sse():
        yield event.data


def every_blank_line_ends_an_event(pieces: list[bytes]) -> Iterator[str]:
    """Decodes as openai-go before 3.43.0 (openai-go#556): an event may have no data."""
    data = ""
    for line in b"".join(pieces).decode().split("\n")[:-1]:
        if not line:
            yield data
            data = ""
        elif line.startswith("data:"):
            data += line.removeprefix("data:").strip()


def events_without_data_count_after_an_id(pieces: list[bytes]) -> Iterator[str]:
    """Decodes as openai-python did where events have ids (openai-python#2722)."""
    decoder = SSEDecoder()
    decoder._last_event_id = "1"
    for event in decoder.iter_bytes(iter(pieces)):
        yield event.data


def line_by_line(pieces: list[bytes]) -> Iterator[str]:
    """Decodes as the many clients that read lines and skip those without `data:`."""
    for line in b"".join(pieces).decode().splitlines():
        if line.startswith("data:"):
            yield line.removeprefix("data:").strip()


DECODERS: list[Callable[[list[bytes]], Iterator[str]]] = [
    openai_python,
    httpx_sse,
    every_blank_line_ends_an_event,
    events_without_data_count_after_an_id,
    line_by_line,
]


@pytest.fixture
async def received(engine: ScriptedEngine) -> bytes:
    """Returns a stream with heartbeats before, between and after its chunks."""
    gates = [asyncio.Event() for _ in range(3)]
    engine.play(
        after(gates[0], stream(*call_deltas("calculate_math", '{"expression": "6*7"}'))),
        stream(*text("It is"), gates[1], *text(" 42."), gates[2]),
    )
    data = b""
    async with (
        live(engine.url, HEARTBEAT_SECONDS="0.05") as server,
        server.http.stream(
            "POST", "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "x"}], "stream": True, "tools": [MATH]},
        ) as answer,
    ):  # fmt: skip
        closed = iter(gates)
        async for part in answer.aiter_raw():
            data += part
            if data.endswith(2 * HEARTBEAT):
                next(closed).set()
    assert all(gate.is_set() for gate in gates)
    return data


@pytest.mark.parametrize("decode", DECODERS)
async def test_heartbeats_are_invisible(decode: Any, received: bytes) -> None:
    for size in (1, 7, len(received)):
        pieces = [received[at : at + size] for at in range(0, len(received), size)]
        *chunks, end = decode(pieces)
        assert end == "[DONE]"
        deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
        assert "".join(delta.get("content") or "" for delta in deltas) == "It is 42."
