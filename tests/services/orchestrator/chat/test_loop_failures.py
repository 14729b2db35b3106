"""Engines that fail in the middle of the loop, and bytes that arrive in any parts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.live import Live, events_of, text_of
from tests.support.scripted_engine import (
    CUT,
    NO_DONE,
    ScriptedEngine,
    body,
    call,
    call_deltas,
    chunk,
    cut,
    raw_stream,
    stream,
    text,
    whole,
)

from .loop_requests import MATH, SUM


async def test_round_is_retried_if_the_client_has_seen_none_of_it(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.play(
        stream(*call_deltas("calculate_math", SUM)),
        stream(*call_deltas("calculate_math", '{"expression": "2+2"}'), CUT),
        stream(*text("It is 2.")),
    )
    events = await server.chat_events(tools=[MATH])
    assert text_of(events) == "It is 2."
    assert events[-1] == "[DONE]"
    assert engine.requests[1].body == engine.requests[2].body


@pytest.mark.parametrize("broken", [(*text("It "), CUT), (*text("It "), NO_DONE)])
async def test_broken_stream_ends_with_an_error(
    server: Live, engine: ScriptedEngine, broken: tuple[Any, ...]
) -> None:
    engine.play(stream(*call_deltas("calculate_math", SUM)), stream(*broken))
    events = await server.chat_events(tools=[MATH])
    last = events[-1]
    assert isinstance(last, dict)
    assert last["error"]["code"] == "engine_failed"
    assert text_of(events[:-1]) == "It "
    assert "[DONE]" not in events


async def test_error_event_from_the_engine_ends_the_answer_after_earlier_events(
    server: Live, engine: ScriptedEngine
) -> None:
    error = b'data: {"error": {"message": "boom", "type": "x", "param": null, "code": 500}}\n\n'
    engine.play(raw_stream(chunk({"role": "assistant", "content": "Half"}) + error + b"data: [DONE]\n\n"))
    events = await server.chat_events(tools=[MATH])
    assert text_of(events) == "Half"
    assert isinstance(events[-1], dict)
    assert "boom" in events[-1]["error"]["message"]


async def test_error_from_the_engine_keeps_its_status_and_message(
    server: Live, engine: ScriptedEngine
) -> None:
    error = {"message": "too long", "type": "BadRequestError", "param": "input_tokens", "code": 400}
    engine.play(body({"error": error}, 400))
    refused = await server.chat(stream=True, tools=[MATH])
    assert (refused.status_code, refused.json()) == (400, {"error": {**error, "code": "400"}})


OVERFLOW = {
    "message": "This model's maximum context length is 1024 tokens. However, your prompt contains at least "
    "1025 input tokens, which exceeds this limit even without any output tokens.",
    "type": "BadRequestError",
    "param": "input_tokens",
    "code": 400,
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("said", ["", "One moment."])
@pytest.mark.parametrize(
    "error",
    [
        OVERFLOW,
        {**OVERFLOW, "param": None},
        {"message": "too long", "code": "context_length_exceeded"},
        {"message": "max_tokens=9 cannot be greater than max_model_len=8", "code": 400},
    ],
)
async def test_answer_ends_with_what_is_there_if_the_results_exceed_the_context(
    server: Live, engine: ScriptedEngine, streaming: bool, said: str, error: Any
) -> None:
    first = whole(said or None, calls=[call("calculate_math", SUM)])
    if streaming:
        first = stream(*text(*said), *call_deltas("calculate_math", SUM), finish="tool_calls")
    engine.play(first, body({"error": error}, 400))
    response = await server.chat(stream=streaming, tools=[MATH], stream_options={"include_usage": streaming})
    assert response.status_code == 200
    if streaming:
        events: list[Any] = events_of(response.text)
        content, usage = text_of(events), events[-2]["usage"]
        reasons = [choice["finish_reason"] for event in events[:-1] for choice in event["choices"]]
        assert [reason for reason in reasons if reason] == ["length"]
        assert events[-1] == "[DONE]"
    else:
        (choice,) = response.json()["choices"]
        content, usage = choice["message"]["content"], response.json()["usage"]
        assert choice["finish_reason"] == "length"
    assert content.startswith(said)
    assert error["message"] in content
    assert usage["completion_tokens"] == 5


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_request_that_only_the_tools_made_invalid_is_not_the_fault_of_the_caller(
    server: Live, engine: ScriptedEngine, status: int
) -> None:
    engine.play(
        whole(calls=[call("calculate_math", SUM)]), body({"error": {"message": "odd", "code": 400}}, status)
    )
    refused = await server.chat(tools=[MATH])
    assert refused.status_code == 502
    assert "odd" in refused.json()["error"]["message"]


async def test_rate_limit_of_a_later_round_stays_one(server: Live, engine: ScriptedEngine) -> None:
    limit = body({"error": {"message": "slow down"}}, 429, retry_after="7")
    engine.play(whole(calls=[call("calculate_math", SUM)]), limit)
    refused = await server.chat(tools=[MATH])
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")


async def test_invalid_data_from_the_engine_is_an_error_at_once(server: Live, engine: ScriptedEngine) -> None:
    for nonsense in (body(b"{oops"), body(b"[]"), body({"error": {"message": "boom"}}, 500)):
        engine.requests.clear()
        engine.play(nonsense)
        answer = await server.chat(tools=[MATH])
        assert answer.status_code == 502
        assert answer.json()["error"]["type"] == "engine_error"
        assert len(engine.requests) == 1


async def test_request_that_breaks_its_engine_is_sent_three_times(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.otherwise = cut(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{")
    assert (await server.chat(tools=[MATH])).status_code == 502
    assert len(engine.requests) == 3


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(sizes=st.lists(st.integers(1, 90), max_size=40))
async def test_answer_does_not_depend_on_how_the_bytes_are_split(
    server: Live, engine: ScriptedEngine, sizes: list[int]
) -> None:
    first = b"".join(chunk(delta) for delta in call_deltas("calculate_math", SUM)) + chunk({}, "tool_calls")
    second = b"".join(chunk(d) for d in text("Né", "e <tool", "_call> ", "2")) + chunk({}, "stop")
    engine.play(
        raw_stream(first + b"data: [DONE]\n\n", sizes), raw_stream(second + b"data: [DONE]\n\n", sizes)
    )
    response = await server.chat(stream=True, tools=[MATH])
    events = events_of(response.text)
    assert text_of(events) == "Née <tool_call> 2"
    assert events[-1] == "[DONE]"
