"""Answers of an unexpected shape are failures of the engine, never of the server."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.live import Live
from tests.support.scripted_engine import ScriptedEngine, body, chunk, raw_stream

MATH = {"type": "function", "function": {"name": "calculate_math"}}
DONE = b"data: [DONE]\n\n"
CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "other", "arguments": "{}"}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "prompt_tokens_details": {"a": 1}}
CHUNK = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE,
    "choices": [
        {
            "index": 0, "finish_reason": "stop", "logprobs": {"content": [{"token": "a", "logprob": -1.0}]},
            "token_ids": [1],
            "message": {"role": "assistant", "content": "Hi", "reasoning": "so", "tool_calls": [CALL]},
        }
    ],
}  # fmt: skip


def paths(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [above] if above else []
    if isinstance(value, dict):
        children: list[tuple[Any, Any]] = list(value.items())
    else:
        children = list(enumerate(value)) if isinstance(value, list) else []
    for key, child in children:
        found += paths(child, (*above, key))
    return found


def replaced(path: tuple[Any, ...], put: Any) -> Any:
    value: Any = copy.deepcopy(CHUNK)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = put
    return value


async def ask_in_each_way(server: Live, engine: ScriptedEngine, value: Any) -> list[int]:
    """Sends the answer whole and streamed, through the relay and the loop; returns the statuses."""
    streamed = copy.deepcopy(value)
    choices = streamed.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and "message" in choice:
            choice["delta"] = choice.pop("message")
    statuses = []
    for stream in (False, True):
        sent = b"data: " + json.dumps(streamed).encode() + b"\n\n" + DONE
        engine.otherwise = raw_stream(sent) if stream else body(value)
        for tools in ([], [MATH], [MATH, {"type": "function", "function": {"name": "other"}}]):
            answer = await server.chat(stream=stream, tools=tools)
            assert "failed unexpectedly" not in answer.text, (stream, tools, value)
            statuses.append(answer.status_code)
    return statuses


ODD: list[Any] = [None, 5, "x", [], {}, [5], [{}], {"a": None}]


@pytest.mark.parametrize("put", ODD, ids=str)
async def test_odd_value_anywhere_in_an_answer_causes_no_failure_of_the_server(
    server: Live, engine: ScriptedEngine, put: Any
) -> None:
    for path in paths(CHUNK):
        for status in await ask_in_each_way(server, engine, replaced(path, put)):
            assert status in (200, 502), path


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(paths(CHUNK)),
    put=st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.floats(allow_nan=False),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["function", "content", "index", "name"]), inner, max_size=3)
        ),
        max_leaves=5,
    ),
)
async def test_any_value_anywhere_in_an_answer_causes_no_failure_of_the_server(
    server: Live, engine: ScriptedEngine, path: tuple[Any, ...], put: Any
) -> None:
    await ask_in_each_way(server, engine, replaced(path, put))


@pytest.mark.parametrize("choices", [None, [], "x", 5, {}])
async def test_answer_without_choices_is_a_failure_of_the_engine(
    server: Live, engine: ScriptedEngine, choices: Any
) -> None:
    engine.otherwise = body({**CHUNK, "choices": choices})
    answer = await server.chat(tools=[MATH])
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_failed")
    assert "choices" in answer.json()["error"]["message"]
    engine.otherwise = raw_stream(b"data: {}\n\n" + DONE)
    answer = await server.chat(tools=[MATH], stream=True)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_failed")


@pytest.mark.parametrize("depth", [100, 260, 900])
@pytest.mark.parametrize("stream", [False, True])
async def test_deeply_nested_answer_causes_no_failure_of_the_server(
    server: Live, engine: ScriptedEngine, depth: int, stream: bool
) -> None:
    deep = b'"deep":' + b"[" * depth + b"]" * depth
    sent = chunk({"content": "Hi"}, "stop").replace(b'"finish_reason"', deep + b',"finish_reason"')
    whole = json.dumps(CHUNK).encode().replace(b'"finish_reason"', deep + b',"finish_reason"')
    engine.otherwise = raw_stream(sent + DONE) if stream else body(whole)
    for tools in ([], [MATH]):
        answer = await server.chat(stream=stream, tools=tools)
        assert answer.status_code in (200, 502)
        assert "failed unexpectedly" not in answer.text
