"""Input items become the messages that they stand for."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.responses.items import read_input
from orchestrator.chat.carried import carry
from orchestrator.errors import InvalidRequest

USER = {"role": "user", "content": "Hi"}


def messages_of(given: Any, instructions: str | None) -> Any:
    return read_input(given, instructions).messages


def call(call_id: str, name: str = "f", arguments: str = '{"x": 1}') -> Any:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def output(call_id: str, content: Any = "1") -> Any:
    return {"type": "function_call_output", "call_id": call_id, "output": content}


def said(text: str) -> Any:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "role": "assistant", "status": "completed", "id": "msg_1", "content": [part]}


def thought(text: str) -> Any:
    return {
        "type": "reasoning",
        "id": "r",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": text}],
    }


def wire(call_id: str, name: str = "f", arguments: str = '{"x": 1}') -> Any:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_text_and_instructions() -> None:
    assert messages_of("Hi", None) == [USER]
    assert messages_of("Hi", "Be brief") == [{"role": "system", "content": "Be brief"}, USER]


def test_items_of_one_turn_are_one_message() -> None:
    items = [USER, thought("Hm"), said("Let me see."), call("a"), call("b"), output("b"), output("a", "2")]
    assert messages_of(items, None) == [
        USER,
        {
            "role": "assistant", "reasoning": "Hm", "content": "Let me see.",
            "tool_calls": [wire("a"), wire("b")],
        },
        {"role": "tool", "tool_call_id": "b", "content": "1"},
        {"role": "tool", "tool_call_id": "a", "content": "2"},
    ]  # fmt: skip


def test_turns_are_messages_of_their_own() -> None:
    items = [call("a"), output("a"), thought("Hm"), call("b"), output("b"), said("2"), said("3")]
    roles = [message["role"] for message in messages_of(items, None)]
    assert roles == ["assistant", "tool", "assistant", "tool", "assistant", "assistant"]


def test_text_after_a_call_starts_another_message() -> None:
    assert [message.get("content") for message in messages_of([call("a"), said("so")], None)] == [None, "so"]


@pytest.mark.parametrize("arguments", ["", "{", "[]", "null", None])
def test_arguments_that_are_not_an_object_are_replaced(arguments: Any) -> None:
    """Engines reject a history with malformed arguments."""
    [message] = messages_of([{**call("a"), "arguments": arguments}], None)
    assert message["tool_calls"][0]["function"]["arguments"] == "{}"


def test_call_of_a_tool_server_is_a_call_with_its_result() -> None:
    item = {"type": "mcp_call", "id": "m", "server_label": "files", "name": "read", "arguments": "{}"}
    listing = {"type": "mcp_list_tools", "id": "l", "server_label": "files", "tools": []}
    assert messages_of([listing, {**item, "output": "text"}, {**item, "error": "gone"}], None) == [
        {"role": "assistant", "tool_calls": [wire("m", "files__read", "{}")]},
        {"role": "tool", "tool_call_id": "m", "content": "text"},
        {"role": "assistant", "tool_calls": [wire("m", "files__read", "{}")]},
        {"role": "tool", "tool_call_id": "m", "content": '{"error":"gone"}'},
    ]


@pytest.mark.parametrize(
    ("error", "content"),
    [
        ({"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": "gone"}]}, "gone"),
        ({"type": "http_error", "code": 500, "message": "broken"}, "broken"),
    ],
)
def test_error_of_a_tool_server(error: Any, content: str) -> None:
    item = {"type": "mcp_call", "id": "m", "server_label": "tandem", "name": "f", "error": error}
    [called, result] = messages_of([item], None)
    assert called["tool_calls"][0]["function"]["name"] == "f"
    assert result["content"] == content


def test_call_without_its_result_is_left_out() -> None:
    """Clients that trust the server to have stored it send it back like this."""
    item = {"type": "mcp_call", "id": "m", "server_label": "tandem", "name": "f", "arguments": "{}"}
    assert messages_of([USER, {**item, "output": None, "error": None}, said("2")], None) == [
        USER, {"role": "assistant", "content": "2"},
    ]  # fmt: skip
    empty = messages_of([{**item, "output": ""}], None)
    assert empty[1]["content"] == ""


def test_turns_that_the_clients_call_carries_become_one_message() -> None:
    """The calls of the server are put back from there, as the model made them."""
    ran = {"type": "mcp_call", "server_label": "tandem", "name": "f", "arguments": "{}", "output": "1"}
    id = carry("b", [[("f", "{}", "1")], [("f", "{}", "1")]], [0])
    items = [
        USER, call("z"), output("z"), thought("Hm"), said("First."), {**ran, "id": "m"}, said("Then."),
        {**ran, "id": "n"}, call(id), call("c"), output(id),
    ]  # fmt: skip
    assert messages_of(items, None)[3:] == [
        {
            "role": "assistant", "reasoning": "Hm", "content": "First.\n\nThen.",
            "tool_calls": [wire(id), wire("c")],
        },
        {"role": "tool", "tool_call_id": id, "content": "1"},
    ]  # fmt: skip


def test_clients_calls_in_another_order_are_kept() -> None:
    ran = {"type": "mcp_call", "id": "m", "server_label": "tandem", "name": "f", "arguments": "{}"}
    id = carry("b", [[("f", "{}", "1")]], [0])
    items = [USER, {**ran, "output": "1"}, call("c"), call(id), output("c"), output(id)]
    [_, turn, *results] = messages_of(items, None)
    assert turn["tool_calls"] == [wire("c"), wire(id)]
    assert [result["tool_call_id"] for result in results] == ["c", id]


def test_items_stay_if_the_clients_call_cannot_be_read() -> None:
    ran = {"type": "mcp_call", "id": "m", "server_label": "tandem", "name": "f", "arguments": "{}"}
    cut = carry("b", [[("f", "{}", "1")]])[:-4]
    messages = messages_of([USER, {**ran, "output": "1"}, call(cut)], None)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]


def test_calls_before_an_approval_are_not_carried() -> None:
    ran = {"type": "mcp_call", "id": "m", "server_label": "tandem", "name": "f", "arguments": "{}"}
    approval = {"type": "mcp_approval_response", "approval_request_id": "r", "approve": True}
    done = {**ran, "id": "n", "approval_request_id": "r", "output": "2"}
    id = carry("b", [[("files__rm", "{}", "2")]])
    messages = messages_of([USER, {**ran, "output": "1"}, ASKED, approval, done, call(id)], None)
    assert [message.get("content") for message in messages] == ["Hi", None, "1", None]


ASKED = {"type": "mcp_approval_request", "id": "r", "server_label": "files", "name": "rm", "arguments": "{}"}


def test_approved_call_is_to_be_run_once() -> None:
    approval = {"type": "mcp_approval_response", "approval_request_id": "r", "approve": True}
    read = read_input([USER, ASKED, approval], None, lambda label, name: f"{label}.{name}")
    assert [(call.id, call.name, call.arguments) for call in read.approved] == [("r", "files.rm", "{}")]
    assert read.messages == [USER]
    done = {"type": "mcp_call", "id": "m", "server_label": "files", "name": "rm", "approval_request_id": "r"}
    assert read_input([USER, ASKED, approval, {**done, "output": "ok"}], None).approved == []


def test_rejected_call_has_a_result_that_says_so() -> None:
    response = {
        "type": "mcp_approval_response",
        "approval_request_id": "r",
        "approve": False,
        "reason": "No!",
    }
    [_, said, result] = messages_of([USER, ASKED, response], None)
    assert said["tool_calls"] == [wire("r", "files__rm", "{}")]
    assert result["content"] == '{"error":"The user rejected this call: No!"}'


def test_servers_that_are_listed_are_noted() -> None:
    listing = {"type": "mcp_list_tools", "id": "l", "server_label": "files", "tools": []}
    assert read_input([USER, listing], None).listed == {"files"}


def test_parts_are_those_of_the_chat_route() -> None:
    parts = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
    ]
    [message] = messages_of([{"role": "user", "content": parts}], None)
    assert message["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
    ]


def test_single_text_part_is_plain_text() -> None:
    [message, result] = messages_of(
        [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            output("a", [{"type": "input_text", "text": "1"}]),
        ],
        None,
    )
    assert (message["content"], result["content"]) == ("Hi", "1")


def test_refusal_is_text() -> None:
    refusal = {"type": "refusal", "refusal": "No."}
    assert messages_of([{"role": "assistant", "content": [refusal]}], None)[0]["content"] == "No."


@pytest.mark.parametrize(
    ("item", "param"),
    [
        (1, "input[0]"),
        ({}, "input[0]"),
        ({"type": "item_reference", "id": "x"}, "input[0]"),
        ({"type": "custom_tool_call", "call_id": "x", "name": "f", "input": "x"}, "input[0]"),
        ({"role": "robot", "content": "x"}, "input[0].role"),
        ({"role": "user"}, "input[0].content"),
        ({"role": "user", "content": ["x"]}, "input[0].content"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "input[0].content[0]"),
        ({"role": "assistant", "content": [{"type": "input_image"}]}, "input[0].content[0]"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "input[0].call_id"),
        ({"type": "function_call", "call_id": "a", "arguments": "{}"}, "input[0].name"),
        ({**call("a"), "arguments": {}}, "input[0].arguments"),
        ({"type": "function_call_output", "call_id": "a"}, "input[0].output"),
        ({"type": "mcp_call", "id": "m", "name": "f"}, "input[0].server_label"),
        ({"type": "mcp_approval_response", "approval_request_id": "r"}, "input[0].approval_request_id"),
    ],
)  # fmt: skip
def test_error_names_the_item(item: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        messages_of([item], None)
    assert caught.value.param == param
    assert param in caught.value.message
