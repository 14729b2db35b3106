"""A request for a response becomes a chat request, or an error that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.responses.request import names_server_tool, parse
from orchestrator.errors import InvalidRequest
from orchestrator.tools.toolbox import Toolbox


def add(x: int, y: int) -> int:
    """Add two numbers."""
    return x + y


TOOLBOX = Toolbox([add])
ADD: Any = {"type": "function", "name": "add"}
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}


def chat_of(**fields: Any) -> Any:
    return parse({"model": "m", "input": "Hi", **fields}, TOOLBOX).chat


def test_fields_are_renamed_or_passed_on() -> None:
    assert chat_of(
        max_output_tokens=5, temperature=0, seed=1, unknown={"a": 1}, reasoning={"effort": "low"}, stream=True
    ) == {
        "model": "m", "max_completion_tokens": 5, "temperature": 0, "seed": 1, "unknown": {"a": 1},
        "reasoning_effort": "low", "stream": True, "messages": [{"role": "user", "content": "Hi"}],
    }  # fmt: skip


def test_fields_without_meaning_for_the_engine_are_dropped() -> None:
    extra = {
        "metadata": {"a": "b"}, "store": False, "background": False, "truncation": "auto",
        "stream_options": {"include_obfuscation": False}, "include": ["reasoning.encrypted_content"],
        "previous_response_id": None, "top_logprobs": 2,
    }  # fmt: skip
    assert chat_of(**extra) == chat_of()


def test_log_probabilities_are_asked_for() -> None:
    chat = chat_of(include=["message.output_text.logprobs"], top_logprobs=2)
    assert (chat["logprobs"], chat["top_logprobs"]) == (True, 2)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "json_object"}),
        (
            {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        ),
    ],
)
def test_format_of_the_text(given: Any, wanted: Any) -> None:
    assert chat_of(text={"format": given}).get("response_format") == wanted


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("required", "required"),
        ({"type": "function", "name": "add"}, {"type": "function", "function": {"name": "add"}}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [ADD]},
            {"type": "allowed_tools", "mode": "auto", "tools": [ADD]},
        ),
    ],
)
def test_tool_choice(given: Any, wanted: Any) -> None:
    assert chat_of(tools=[ADD], tool_choice=given)["tool_choice"] == wanted


def test_tools_have_the_chat_routes_form() -> None:
    own = {"type": "function", "name": "mine", "description": "d", "parameters": SCHEMA, "strict": None}
    assert chat_of(tools=[ADD, own])["tools"] == [
        {"type": "function", "function": {"name": "add"}},
        {"type": "function", "function": {"name": "mine", "description": "d", "parameters": SCHEMA}},
    ]


def test_echo_has_complete_tools() -> None:
    [tool] = parse({"input": "Hi", "tools": [ADD]}, TOOLBOX).echo["tools"]
    assert tool["description"] == "Add two numbers."
    assert set(tool["parameters"]["properties"]) == {"x", "y"}


@pytest.mark.parametrize(
    ("tools", "named"),
    [
        (None, False), ([], False), ("x", False), ([1, {}], False), ([ADD], True),
        ([{"type": "function", "name": "sub"}], False), ([{"type": "custom", "name": "add"}], False),
        ([{"type": "function", "name": ["add"]}], False),
    ],
)  # fmt: skip
def test_server_tool_is_recognised(tools: Any, named: bool) -> None:
    assert names_server_tool({"tools": tools}, TOOLBOX) is named


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 1}, "input"),
        ({"input": []}, "input"),
        ({"instructions": ["x"]}, "instructions"),
        ({"max_output_tokens": "5"}, "max_output_tokens"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_tool_calls": True}, "max_tool_calls"),
        ({"max_tool_calls": 0}, "max_tool_calls"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"stream": "yes"}, "stream"),
        ({"tools": {}}, "tools"),
        ({"tools": [1]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [ADD, {"type": "web_search_preview"}]}, "tools[1]"),
        ({"tool_choice": {"type": "custom", "name": "x"}}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": []}, "text"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
    ],
)  # fmt: skip
def test_error_names_the_field(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat_of(**fields)
    assert caught.value.param == param
    assert param in caught.value.message


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "custom", "name": "apply_patch"},
        {"type": "namespace", "name": "apply_patch", "tools": []},
    ],
)
def test_error_names_the_tool_that_cannot_be_combined(tool: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat_of(tools=[tool, ADD])
    for part in ("tools[0]", tool["type"], "apply_patch", "add", "X-Tool-Execution: client"):
        assert part in caught.value.message
