"""Strict validation against the types of the official anthropic package."""

from __future__ import annotations

from typing import Any, get_args

from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from pydantic import BaseModel

_EVENTS: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model
    for model in get_args(get_args(BetaRawMessageStreamEvent)[0])
}
_FIELDS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "thinking"),
    "input_json_delta": ("partial_json", "tool_use"),
}


def check_message(message: dict[str, Any]) -> None:
    """Validates a whole message.

    Raises:
        AssertionError, pydantic.ValidationError: the message is not as the package expects it.
    """
    BetaMessage.model_validate(message, strict=True)
    uses = [block["id"] for block in message["content"] if block["type"] == "mcp_tool_use"]
    results = [block["tool_use_id"] for block in message["content"] if block["type"] == "mcp_tool_result"]
    assert sorted(uses) == sorted(results)


def check_error(error: dict[str, Any]) -> None:
    ErrorResponse.model_validate(error, strict=True)


def check_events(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Validates the events of a streamed message and returns the message that they add up to.

    Raises:
        AssertionError, pydantic.ValidationError: an event is not as the package expects it.
    """
    for event in events:
        _EVENTS[event["type"]].model_validate(event, strict=True)
    assert [event["type"] for event in (events[0], *events[-2:])] == [
        "message_start", "message_delta", "message_stop",
    ]  # fmt: skip
    message: dict[str, Any] = {**events[0]["message"], "content": []}
    open_block: dict[str, Any] | None = None
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert open_block is None
            open_block = {**event["content_block"], "index": event["index"], "json": ""}
            assert event["index"] == len(message["content"])
        elif event["type"] == "content_block_delta":
            assert open_block is not None
            assert event["index"] == open_block["index"]
            name, kind = _FIELDS[event["delta"]["type"]]
            assert open_block["type"] == kind
            key = "json" if name == "partial_json" else name
            open_block[key] += event["delta"][name]
        else:
            assert event["type"] == "content_block_stop"
            assert open_block is not None
            assert event["index"] == open_block["index"]
            message["content"].append(open_block)
            open_block = None
    assert open_block is None
    return {**message, **events[-2]["delta"], "usage": events[-2]["usage"]}
