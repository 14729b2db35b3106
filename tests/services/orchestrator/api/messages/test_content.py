"""Anthropic's messages become the chat messages that they stand for."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.messages.content import call_name, messages_of
from orchestrator.errors import InvalidRequest

USER = {"role": "user", "content": "Hi"}


def assistant(*blocks: Any) -> Any:
    return {"role": "assistant", "content": list(blocks)}


def user(*blocks: Any) -> Any:
    return {"role": "user", "content": list(blocks)}


def text(value: str) -> Any:
    return {"type": "text", "text": value}


def use(id: str, kind: str = "tool_use", **more: Any) -> Any:
    return {"type": kind, "id": id, "name": "f", "input": {"x": 1}, **more}


def wire(id: str, name: str = "f") -> Any:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": '{"x":1}'}}


def test_system_is_the_first_message_without_the_billing_header() -> None:
    system = [text("x-anthropic-billing-header: a=1"), text("Be "), text("brief")]
    assert messages_of([USER], system) == [{"role": "system", "content": "Be brief"}, USER]
    assert messages_of([USER], "Be brief") == [{"role": "system", "content": "Be brief"}, USER]
    assert messages_of([USER], []) == [USER]


def test_calls_of_the_client() -> None:
    thought = {"type": "thinking", "thinking": "Hm", "signature": "s"}
    silent = {"type": "redacted_thinking", "data": "x"}
    result = {"type": "tool_result", "tool_use_id": "b", "content": [text("1"), text("2")]}
    assert messages_of(
        [USER, assistant(thought, silent, text("So"), use("a"), use("b")),
         user(result, {"type": "tool_result", "tool_use_id": "a"}, text("Go on"))], None
    ) == [
        USER,
        {"role": "assistant", "content": "So", "reasoning": "Hm", "tool_calls": [wire("a"), wire("b")]},
        {"role": "tool", "tool_call_id": "b", "content": "1\n2"},
        {"role": "tool", "tool_call_id": "a", "content": ""},
        {"role": "user", "content": "Go on"},
    ]  # fmt: skip


def test_calls_of_the_server_are_turns_with_their_results() -> None:
    own = {"server_name": "tandem"}
    result = {"type": "mcp_tool_result", "is_error": False, "content": [text("1")]}
    assert messages_of(
        [assistant(
            text("So"), use("a", "mcp_tool_use", **own), use("b", "mcp_tool_use", server_name="files"),
            {**result, "tool_use_id": "a"}, {**result, "tool_use_id": "b"}, text("It is 1"), use("c"),
        )], None
    ) == [
        {"role": "assistant", "content": "So", "tool_calls": [wire("a"), wire("b", "files__f")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "1"},
        {"role": "assistant", "content": "It is 1", "tool_calls": [wire("c")]},
    ]  # fmt: skip


def test_name_of_a_call() -> None:
    assert call_name(use("a")) == call_name(use("a", server_name="tandem")) == "f"
    assert call_name(use("a", server_name="files")) == "files__f"


def test_images() -> None:
    data = {"type": "base64", "media_type": "image/png", "data": "AA=="}
    shown = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    linked = {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}
    image = {"type": "image", "source": data}
    [message] = messages_of([user(text("See"), image, linked)], None)
    assert message["content"] == [
        text("See"), shown, {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
    ]  # fmt: skip
    result = {"type": "tool_result", "tool_use_id": "a", "content": [text("1"), image]}
    assert messages_of([user(result)], None) == [
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "user", "content": [shown]},
    ]


def test_inline_system_message() -> None:
    assert messages_of([USER, {"role": "system", "content": [text("Now")]}], None)[1]["content"] == "Now"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ([1], "messages[0].role"),
        ([{"role": "tool", "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([user(1)], "messages[0].content"),
        ([user({"type": "document"})], "messages[0].content[0]"),
        ([user({"type": "image", "source": {"type": "file"}})], "messages[0].content[0]"),
        ([user({"type": "text"})], "messages[0].content[0].text"),
        ([assistant({"type": "server_tool_use"})], "messages[0].content[0]"),
        ([assistant(use("a", input="x"))], "messages[0].content[0].input"),
        ([assistant({"type": "tool_use", "id": "a"})], "messages[0].content[0].name"),
        ([user({"type": "tool_result"})], "messages[0].content[0].tool_use_id"),
    ],
)
def test_error_names_the_place(messages: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        messages_of(messages, None)
    assert caught.value.param == param
    assert param in caught.value.message
