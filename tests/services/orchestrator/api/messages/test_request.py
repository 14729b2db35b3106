"""A request for a message becomes a chat request, or an error that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.messages.request import chat_request, names_server_tool, tool_name
from orchestrator.errors import InvalidRequest
from orchestrator.tools.toolbox import Toolbox


def add(x: int, y: int) -> int:
    """Add two numbers."""
    return x + y


SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}


def chat_of(**fields: Any) -> Any:
    base = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    return chat_request({**base, **fields})


def test_fields_are_renamed_dropped_or_passed_on() -> None:
    assert chat_of(
        stop_sequences=["x"], temperature=0, top_k=3, stream=True, metadata={"user_id": "u"},
        service_tier="auto", betas=["b"], context_management={}, unknown=1,
    ) == {
        "model": "m", "max_tokens": 5, "stop": ["x"], "temperature": 0, "top_k": 3, "stream": True,
        "unknown": 1, "messages": [{"role": "user", "content": "Hi"}],
    }  # fmt: skip


def test_tools() -> None:
    own = {"name": "mine", "description": "d", "input_schema": SCHEMA, "strict": True, "type": "custom"}
    assert chat_of(tools=[{"name": "add", "cache_control": {"type": "ephemeral"}}, own])["tools"] == [
        {"type": "function", "function": {"name": "add"}},
        {
            "type": "function",
            "function": {"name": "mine", "description": "d", "parameters": SCHEMA, "strict": True},
        },
    ]


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "add"}, {"type": "function", "function": {"name": "add"}}),
    ],
)
def test_tool_choice(choice: Any, wanted: Any) -> None:
    assert chat_of(tool_choice=choice)["tool_choice"] == wanted
    assert "parallel_tool_calls" not in chat_of(tool_choice=choice)
    assert chat_of(tool_choice={**choice, "disable_parallel_tool_use": True})["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, {"thinking_token_budget": 2000}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "json_schema", "schema": SCHEMA},
                }
            },
        ),
    ],
)
def test_thinking_and_output(fields: Any, wanted: Any) -> None:
    assert chat_of(**fields).items() >= wanted.items()


@pytest.mark.parametrize(
    ("tools", "named"),
    [
        (None, False), ("x", False), ([], False), ([1], False), ([{"name": "add"}], True),
        ([{"name": "sub"}], False), ([{"name": ["add"]}], False), ([{"name": "add", "type": "custom"}], True),
        ([{"name": "add", "type": "bash_20250124"}], False),
    ],
)  # fmt: skip
def test_server_tool_is_recognised(tools: Any, named: bool) -> None:
    assert names_server_tool({"tools": tools}, Toolbox([add])) is named


def test_name_of_anthropics_own_tool_is_not_ours() -> None:
    assert tool_name({"type": "web_search_20250305", "name": "web_search"}) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"tools": {}}, "tools"),
        ({"tools": [1]}, "tools[0]"),
        ({"tools": [{"name": "add"}, {"type": "web_search_20250305", "name": "web_search"}]}, "tools[1]"),
        ({"tools": [{"name": ""}]}, "tools[0].name"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"thinking": "on"}, "thinking"),
    ],
)
def test_error_names_the_field(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat_of(**fields)
    assert caught.value.param == param
    assert param in caught.value.message
