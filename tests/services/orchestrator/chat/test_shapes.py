"""Answers in odd shapes: what can be read is read, and the rest is a 502 with the reason, never a 500."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.chat.shapes import ODD_SHAPES, OddShape
from tests.support.live import Json, Live, text_of
from tests.support.scripted_engine import ScriptedEngine, body, raw_stream, stream, text, whole

from .loop_requests import MATH, MINE, SUM

CLIENT_CALL = "my_tool"


def answer_of(shape: OddShape, *, streaming: bool) -> Json:
    message: Json = {
        "role": "assistant",
        "content": None,
        **(shape.example if shape.place == "message" else {}),
    }
    if shape.place == "answer":
        message["content"] = "Hi"
    choice: Json = {"index": 0, "finish_reason": "stop", "message": message}
    if shape.place == "choice":
        choice = {"index": 0, "finish_reason": "stop", **shape.example}
    if streaming and "message" in choice:
        choice["delta"] = choice.pop("message")
    answer = {
        "id": "c",
        "model": "m",
        "choices": [choice],
        **(shape.example if shape.place == "answer" else {}),
    }
    if streaming and isinstance(answer["choices"], dict):
        answer["choices"] = {"delta": answer["choices"]["message"]}
    return answer


def sse(*answers: Json) -> Any:
    data = b"".join(b"data: " + json.dumps(answer).encode() + b"\n\n" for answer in answers)
    return raw_stream(data + b"data: [DONE]\n\n")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("shape", ODD_SHAPES, ids=lambda shape: json.dumps(shape.example)[:60])
async def test_odd_shape_is_read_as_the_table_says(
    server: Live, engine: ScriptedEngine, shape: OddShape, streaming: bool
) -> None:
    answer = answer_of(shape, streaming=streaming)
    end = (stream(*text("End")),) if streaming else (whole("End"),)
    engine.play(sse(answer) if streaming else body(answer), *(end if shape.calls else ()))
    response = await server.chat(stream=streaming, tools=[MATH, MINE])
    if shape.reading.startswith("502"):
        assert response.status_code == 502 or '"code":"engine_failed"' in response.text
        assert "The engine's answer" in response.text
        return
    assert response.status_code == 200
    if streaming:
        events = [json.loads(e[6:]) for e in response.text.split("\n\n") if e.startswith("data: {")]
        shown: Any = text_of(events)
        assert "error" not in response.text
    else:
        shown = response.json()["choices"][0]["message"]["content"] or ""
        assert response.json()["usage"] is None or response.json()["usage"]
    assert shown == (shape.text or ("End" if shape.calls else ""))
    history = engine.requests[-1].json["messages"][1:]
    calls = history[0]["tool_calls"] if history else []
    assert [(c["function"]["name"], c["function"]["arguments"]) for c in calls] == list(shape.calls)
    assert all(isinstance(call["id"], str) and call["type"] == "function" for call in calls)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("arguments", [None, {}, {"x": 1}, "", '{"x": 1}', [1]])
async def test_odd_arguments_of_a_call_for_the_client_are_json_text(
    server: Live, engine: ScriptedEngine, arguments: Any, streaming: bool
) -> None:
    call = {"index": 0, "id": "a", "function": {"name": CLIENT_CALL, "arguments": arguments}}
    part = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "finish_reason": "tool_calls", "delta" if streaming else "message": part}
    answer = {"id": "c", "model": "m", "choices": [choice]}
    engine.play(sse(answer) if streaming else body(answer))
    response = await server.chat(stream=streaming, tools=[MATH, MINE])
    assert response.status_code == 200
    if streaming:
        events = [json.loads(e[6:]) for e in response.text.split("\n\n") if e.startswith("data: {")]
        pieces = [c for e in events for c in e["choices"][0]["delta"].get("tool_calls", [])]
        written = "".join(piece["function"].get("arguments", "") for piece in pieces)
    else:
        written = response.json()["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert (
        json.loads(written)
        == (arguments if isinstance(arguments, (dict, list)) else json.loads(arguments or "{}"))
        or {}
    )


KEYS = st.sampled_from(
    [
        "choices",
        "message",
        "delta",
        "content",
        "role",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "index",
        "id",
        "type",
        "text",
        "reasoning",
        "reasoning_content",
        "function_call",
        "finish_reason",
        "bytes",
    ]
)
SCALARS = st.sampled_from([None, True, 0, 1, -1.5, 10**30, "", "x", "0", "stop", "calculate_math", SUM])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
PER_CHOICE = st.sampled_from(["logprobs", "finish_reason", "token_ids", "text"])


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(message=JSON, usage=JSON, finish=JSON)
async def test_no_answer_that_is_relayed_is_an_internal_error(
    server: Live, engine: ScriptedEngine, message: Any, usage: Any, finish: Any
) -> None:
    choice = {"index": 0, "message": message, "delta": message, "finish_reason": finish}
    data = {"id": "x", "created": 1, "choices": [choice], "usage": usage}
    engine.otherwise = body(data)
    assert (await server.http.post("/v1/embeddings", json={"input": "x"})).status_code in (200, 502)
    engine.otherwise = sse(data)
    relayed = (await server.chat(stream=True)).text
    assert ("[DONE]" in relayed) != ("engine_failed" in relayed), relayed
    assert "internal_error" not in relayed


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    message=JSON,
    choice=st.dictionaries(PER_CHOICE, JSON),
    usage=JSON,
    streaming=st.booleans(),
    asked=st.booleans(),
)
async def test_no_answer_of_an_engine_is_an_internal_error(
    server: Live, engine: ScriptedEngine, message: Any, choice: Json, usage: Any, streaming: bool, asked: bool
) -> None:
    engine.replies.clear()
    answer = {"choices": [{"delta" if streaming else "message": message, **choice}], "usage": usage}
    engine.play(sse(answer) if streaming else body(answer), *[whole("End")] * 2)
    response = await server.chat(stream=streaming, tools=[MATH, MINE], logprobs=asked)
    assert response.status_code in (200, 502)
    assert "internal_error" not in response.text
    assert response.text.endswith("[DONE]\n\n") or "engine_failed" in response.text or not streaming
