"""Headers, heartbeats and the ends of a stream."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.live import Live, events_of, live, text_of
from tests.support.scripted_engine import ScriptedEngine, after, body, call_deltas, stream, text, whole

MATH = {"type": "function", "function": {"name": "calculate_math"}}


@pytest.fixture
def beat() -> str:
    return "0.05"


@pytest.mark.parametrize("tools", [None, [MATH]])
async def test_silence_before_the_first_event_gives_headers_and_heartbeats(
    engine: ScriptedEngine, beat: str, tools: Any
) -> None:
    go_on = asyncio.Event()
    engine.play(after(go_on, stream(*text("Hello"))))
    async with (
        live(engine.url, HEARTBEAT_SECONDS=beat) as server,
        server.http.stream(
            "POST", "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "x"}], "stream": True, "tools": tools},
        ) as answer,
    ):  # fmt: skip
        assert answer.status_code == 200
        received = b""
        async for part in answer.aiter_raw():
            received += part
            if received.count(b": keep-alive") == 2:
                go_on.set()
    events = events_of(received.decode())
    assert events[:2] == [": keep-alive", ": keep-alive"]
    assert text_of(events) == "Hello"
    assert events[-1] == "[DONE]"


async def test_heartbeats_come_in_the_silence_of_tools_and_later_rounds(
    engine: ScriptedEngine, beat: str
) -> None:
    go_on = asyncio.Event()
    engine.play(
        stream(*call_deltas("calculate_math", '{"expression": "1"}')), after(go_on, stream(*text("1")))
    )
    async with (
        live(engine.url, HEARTBEAT_SECONDS=beat) as server,
        server.http.stream(
            "POST", "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "x"}], "stream": True, "tools": [MATH]},
        ) as answer,
    ):  # fmt: skip
        received = b""
        async for part in answer.aiter_raw():
            received += part
            if b": keep-alive" in received:
                go_on.set()
    assert text_of(events_of(received.decode())) == "1"


async def test_heartbeat_never_splits_an_event(engine: ScriptedEngine, beat: str) -> None:
    go_on = asyncio.Event()
    whole_event = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
    engine.play(stream(whole_event[:20], go_on, whole_event[20:]))
    async with (
        live(engine.url, HEARTBEAT_SECONDS=beat) as server,
        server.http.stream(
            "POST", "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "x"}], "stream": True},
        ) as answer,
    ):  # fmt: skip
        received = b""
        async for part in answer.aiter_raw():
            received += part
            if received.count(b": keep-alive") == 1:
                go_on.set()
    assert whole_event in received
    assert text_of(events_of(received.decode())) == "Hello"


async def test_early_failure_keeps_its_status(server: Live, engine: ScriptedEngine) -> None:
    engine.play(
        body({"error": {"message": "no", "type": "BadRequestError", "param": None, "code": 400}}, 400)
    )
    answer = await server.chat(stream=True)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"


async def test_late_failure_is_an_event(engine: ScriptedEngine, beat: str) -> None:
    go_on = asyncio.Event()
    refusal = body({"error": {"message": "no", "type": "BadRequestError", "param": None, "code": 400}}, 400)
    engine.play(after(go_on, refusal))
    async with (
        live(engine.url, HEARTBEAT_SECONDS=beat) as server,
        server.http.stream(
            "POST", "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "x"}], "stream": True},
        ) as answer,
    ):  # fmt: skip
        received = b""
        async for part in answer.aiter_raw():
            received += part
            go_on.set()
    events = events_of(received.decode())
    assert isinstance(events[-1], dict)
    assert events[-1]["error"]["message"] == "no"
    assert "[DONE]" not in events


async def test_engine_that_does_not_stream_after_headers_is_an_error(
    engine: ScriptedEngine, beat: str
) -> None:
    go_on = asyncio.Event()
    engine.play(after(go_on, whole("not a stream")))
    async with (
        live(engine.url, HEARTBEAT_SECONDS=beat) as server,
        server.http.stream(
            "POST", "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "x"}], "stream": True},
        ) as answer,
    ):  # fmt: skip
        received = b""
        async for part in answer.aiter_raw():
            received += part
            go_on.set()
    assert b"without a stream" in received


async def test_whole_answer_has_no_heartbeat(engine: ScriptedEngine, beat: str) -> None:
    go_on = asyncio.Event()
    engine.play(after(go_on, whole("slow")), stream(go_on, *text("done")))
    async with live(engine.url, HEARTBEAT_SECONDS=beat) as server:
        slow = asyncio.create_task(server.chat())
        await engine.arrived.wait()
        # A stream that runs beside it beats meanwhile, which tells that the time has passed.
        async with server.http.stream(
            "POST", "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "x"}], "stream": True},
        ) as answer:  # fmt: skip
            received = b""
            async for part in answer.aiter_raw():
                received += part
                if received.count(b": keep-alive") == 2:
                    go_on.set()
        assert (await slow).json()["choices"][0]["message"]["content"] == "slow"
