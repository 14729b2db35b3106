"""An engine's answer of any shape is either read or reported as the engine's fault, never as the server's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.chat.shapes import first_choice
from orchestrator.errors import EngineFailed
from tests.support.live import Live
from tests.support.scripted_engine import ScriptedEngine, body, counts, raw_stream

from .loop_requests import MATH

WRONG: list[dict[str, Any]] = [
    {},
    {"choices": []},
    {"object": "list", "data": []},
    {"choices": [None]},
    {"choices": {"0": {}}},
    {"choices": "text"},
    {"choices": [{"message": "text"}]},
    {"choices": [{"message": {"content": 5}}]},
    {"choices": [{"message": {"content": [{"type": "text"}]}}]},
    {"choices": [{"message": {"reasoning": {"text": "x"}}}]},
    {"choices": [{"message": {"tool_calls": {"0": {}}}}]},
    {"choices": [{"message": {"tool_calls": [None]}}]},
    {"choices": [{"message": {"tool_calls": [{"index": "0"}]}}]},
    {"choices": [{"message": {"tool_calls": [{"index": None}]}}]},
    {"choices": [{"message": {"tool_calls": [{"function": "f"}]}}]},
    {"choices": [{"message": {"tool_calls": [{"function": {"name": 1}}]}}]},
    {"choices": [{"message": {"tool_calls": [{"function": {"arguments": {}}}]}}]},
    {"choices": [{"message": {"content": "x"}, "finish_reason": 1}]},
]


@pytest.mark.parametrize("answer", WRONG, ids=json.dumps)
async def test_answer_without_the_shape_of_a_completion_is_the_engines_failure(
    server: Live, engine: ScriptedEngine, answer: dict[str, Any]
) -> None:
    delta = json.loads(json.dumps(answer).replace('"message"', '"delta"'))
    engine.play(body(answer), raw_stream(b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(delta).encode()))
    for stream in (False, True):
        failed = await server.chat(tools=[MATH], stream=stream)
        assert failed.status_code == 502, failed.text
        assert failed.json()["error"]["code"] == "engine_failed"


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**63) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ("index", "id", "function", "name", "arguments", "content", "tool_calls", "finish_reason",
                 "reasoning", "message", "usage", "prompt_tokens", "role")
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(message=ANY, usage=ANY, finish=ANY)
async def test_no_shape_of_an_answer_is_a_failure_of_the_server(
    server: Live, engine: ScriptedEngine, message: Any, usage: Any, finish: Any
) -> None:
    choice = {"index": 0, "message": message, "delta": message, "finish_reason": finish}
    data = {"id": "x", "created": 1, "choices": [choice], "usage": usage}
    engine.otherwise = body(data)
    assert (await server.chat(tools=[MATH])).status_code in (200, 502)
    assert (await server.http.post("/v1/embeddings", json={"input": "x"})).status_code in (200, 502)
    engine.otherwise = raw_stream(b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(data).encode())
    for tools in ([MATH], None):
        text = (await server.chat(tools=tools, stream=True)).text
        assert ("[DONE]" in text) != ("engine_failed" in text), text
        assert "internal_error" not in text


def test_chunk_that_only_reports_usage_has_no_choice() -> None:
    assert first_choice({"choices": [], "usage": counts(1, 2)}) is None
    with pytest.raises(EngineFailed, match="usage is '5'"):
        first_choice({"choices": [], "usage": 5})
