"""A client that disconnects: the engine stops generating for it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest

from tests.clients.support import CALCULATOR, metric
from tests.e2e.engine.serve import RealEngine
from tests.support.processes import Service, eventually

WAITING: Any = {"type": "function", "function": {"name": "wait_for_ever"}}
LONG = {"min_tokens": 1500, "max_tokens": 1800, "temperature": 1.0, "ignore_eos": True}


async def leave_after(tandem: Service, engine: RealEngine, payload: dict[str, Any], ready: Any) -> float:
    """Sends a request, disconnects once `ready` holds, and returns the seconds until the engine is idle."""
    host, port = tandem.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
            **payload,
        }
    ).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % len(body) + body)
    if payload.get("stream") and "tools" not in payload:
        await reader.readuntil(b"data: ")
    await eventually(ready, "the request to be running", seconds=30)
    writer.transport.abort()
    left = time.monotonic()
    await eventually(lambda: running(engine) == 0, "the engine to be idle", seconds=20)
    return time.monotonic() - left


def running(engine: RealEngine) -> float:
    for line in httpx.get(f"{engine.url}/metrics").text.splitlines():
        if line.startswith("vllm:num_requests_running{"):
            return float(line.rpartition(" ")[2])
    raise AssertionError("the engine does not report a running count")


@pytest.mark.parametrize("streaming", [True, False], ids=["in the stream", "before the whole answer"])
@pytest.mark.parametrize("tools", [[], [CALCULATOR]], ids=["relayed", "tools run"])
async def test_engine_stops_within_a_second(
    tandem: Service, engine: RealEngine, streaming: bool, tools: list[Any]
) -> None:
    payload = {**LONG, "stream": streaming, **({"tools": tools} if tools else {})}
    assert await leave_after(tandem, engine, payload, lambda: running(engine) == 1) < 1.0


async def test_disconnect_during_a_tool_sends_the_engine_nothing_more(
    tandem: Service, engine: RealEngine
) -> None:
    before = metric(tandem, "requests_total", status="499")
    named = {"type": "function", "function": {"name": "wait_for_ever"}}
    payload = {"tools": [WAITING], "tool_choice": named, "stream": True, "temperature": 0, "max_tokens": 200}
    asked = requests(engine)

    def in_the_tool() -> bool:
        return requests(engine) == asked + 1 and running(engine) == 0

    assert await leave_after(tandem, engine, payload, in_the_tool) < 1.0
    await eventually(
        lambda: metric(tandem, "requests_total", status="499") > before, "the end of the request"
    )
    assert requests(engine) == asked + 1


def requests(engine: RealEngine) -> float:
    """Returns the number of requests that the engine has finished."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in httpx.get(f"{engine.url}/metrics").text.splitlines()
        if line.startswith("vllm:request_success_total{")
    )
