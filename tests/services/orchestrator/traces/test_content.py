"""Messages in attributes are bounded, and nothing that a client sends breaks them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.traces.content import input_messages, output_messages, text_of_answer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "messages", "text", "type", "tool_calls", "function", "delta"]
            ),
            inner,
        )
    ),
    max_leaves=20,
)


def said(payload: dict[str, Any], limit: int = 1000) -> Any:
    return json.loads(input_messages(payload, limit))


def test_conversation_with_tools_and_images() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "4"},
    ]
    shown = said({"messages": messages})
    assert [one["role"] for one in shown] == ["system", "user", "assistant", "tool"]
    assert shown[1]["parts"] == [{"type": "text", "content": "What is this?"}, {"type": "image_url"}]
    assert shown[2]["parts"] == [{"type": "tool_call", "name": "f", "arguments": "{}"}]
    assert shown[3]["parts"] == [{"type": "tool_call_response", "id": "c", "response": "4"}]


@pytest.mark.parametrize("field", ["input", "prompt"])
def test_text_alone(field: str) -> None:
    assert said({field: "Hi"}) == [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]


def test_last_messages_are_kept() -> None:
    messages = [{"role": "user", "content": f"{number} " + "x" * 50} for number in range(500)]
    shown = said({"messages": messages}, 200)
    assert shown[-1]["parts"][0]["content"].startswith("499")
    assert len(shown) <= 5


@settings(max_examples=30)
@given(
    payload=st.dictionaries(st.sampled_from(["messages", "input", "prompt"]), JSON), limit=st.integers(1, 300)
)
def test_anything_is_bounded_json(payload: dict[str, Any], limit: int) -> None:
    encoded = input_messages(payload, limit)
    json.loads(encoded or "null")
    assert len(encoded) <= 12 * limit + 12_000


def test_answer_with_calls() -> None:
    [shown] = json.loads(output_messages("Hm", [("c1", "f", '{"a": 1}')], "tool_calls", 6))
    assert shown["parts"] == [
        {"type": "text", "content": "Hm"},
        {"type": "tool_call", "id": "c1", "name": "f", "arguments": '{"a"'},
    ]
    assert shown["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    "answer",
    [
        b'{"choices":[{"message":{"content":"Hello"}}]}',
        b'{"choices":[{"text":"Hello"}]}',
        b'{"output":[{"content":[{"type":"output_text","text":"Hello"}]}]}',
        b'{"content":[{"type":"text","text":"Hello"}]}',
        b'data: {"choices":[{"delta":{"content":"Hel"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"lo"}}]}\n\n'
        b'data: [DONE]\n\ndata: {"cho',
        b'event: x\ndata: {"type":"response.output_text.delta","delta":"Hello"}\n\n',
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Hello"}}\n\n',
    ],
)
def test_text_of_answers(answer: bytes) -> None:
    assert text_of_answer(answer) == "Hello"


@settings(max_examples=30)
@given(JSON)
def test_any_answer_is_read(value: Any) -> None:
    text_of_answer(json.dumps(value).encode())
    text_of_answer(b"data: " + json.dumps(value).encode() + b"\n\n")
