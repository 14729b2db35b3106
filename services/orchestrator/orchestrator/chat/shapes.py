"""Checks the parts of an engine's chunk that the loop reads. What follows can rely on their types."""

from __future__ import annotations

from typing import Any

from ..errors import EngineFailed
from ..protocol import JsonObject

_TEXTS = ("content", "reasoning", "reasoning_content")


def first_choice(chunk: JsonObject) -> JsonObject | None:
    """Returns the first choice of a chunk or whole answer, or None if it has none, as a chunk with usage.

    Raises:
        EngineFailed: the chunk does not have the shape of a chat completion; the message names the field.
    """
    choices = chunk.get("choices")
    _check("usage", chunk.get("usage"), dict)
    if not choices:
        return None
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise _wrong("choices", choices)
    choice: JsonObject = choices[0]
    _check("finish_reason", choice.get("finish_reason"), str)
    message = _check("delta", choice.get("delta"), dict) or _check("message", choice.get("message"), dict)
    if message:
        for name in _TEXTS:
            _check(name, message.get(name), str)
        for call in _check("tool_calls", message.get("tool_calls"), list) or ():
            _check_call(call)
    return choice


def _check_call(call: Any) -> None:
    if not isinstance(call, dict):
        raise _wrong("tool_calls", call)
    _check("id", call.get("id"), str)
    if "index" in call and not isinstance(call["index"], int):
        raise _wrong("index", call["index"])
    function = _check("function", call.get("function"), dict) or {}
    _check("name", function.get("name"), str)
    _check("arguments", function.get("arguments"), str)


def _check(field: str, value: Any, kind: type) -> Any:
    if value is not None and not isinstance(value, kind):
        raise _wrong(field, value)
    return value


def _wrong(field: str, value: Any) -> EngineFailed:
    return EngineFailed(
        f"The engine's answer does not have the shape of a chat completion: {field} is {str(value)[:80]!r}"
    )
