"""Messages as the GenAI conventions write them in attributes, of bounded size.

The source is whatever clients and engines send, so nothing here relies on its form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

JsonObject = dict[str, Any]

_MESSAGES_AT_MOST = 64
_PARTS_AT_MOST = 64


class _Text:
    """The texts of one attribute, which share a limit in characters."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def cut(self, value: Any) -> str:
        text = value if isinstance(value, str) else ""
        kept = text[: self.left]
        self.left -= len(kept)
        return kept


def input_messages(payload: JsonObject, limit: int) -> str:
    """Returns what a request asks the model: the last messages that fit."""
    given = payload.get("messages", payload.get("input", payload.get("prompt")))
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    messages = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    text, kept = _Text(limit), list[JsonObject]()
    for message in reversed(messages[-_MESSAGES_AT_MOST:]):
        if text.left <= 0:
            break
        kept.append({"role": text.cut(message.get("role"))[:32], "parts": _parts(message, text)})
    return _json(kept[::-1])


def output_messages(content: str, calls: Sequence[tuple[str, str, str]], finish: str, limit: int) -> str:
    """Returns an answer of the model.

    Args:
        calls: the id, name and arguments of each tool call.
    """
    text = _Text(limit)
    parts: list[JsonObject] = [{"type": "text", "content": text.cut(content)}] if content else []
    for number, name, arguments in calls[:_PARTS_AT_MOST]:
        parts.append(
            {"type": "tool_call", "id": number[:64], "name": name[:64], "arguments": text.cut(arguments)}
        )
    return _json([{"role": "assistant", "parts": parts, "finish_reason": finish[:32]}])


def text_of_answer(answer: bytes) -> str:
    """Returns the text in an engine's answer: a whole one, or the events of a stream."""
    if not answer.startswith(b"{"):
        payloads = (line[5:] for line in answer.split(b"\n") if line.startswith(b"data:"))
        return "".join(_text_in(payload) for payload in payloads)
    return _text_in(answer)


def _text_in(payload: bytes) -> str:
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:  # [DONE], or cut off
        return ""
    if not isinstance(value, dict):
        return ""
    found = []
    for choice in _dicts(value.get("choices")):
        holder = choice.get("delta") or choice.get("message") or choice
        holder = holder if isinstance(holder, dict) else {}
        found.append(holder.get("content") or holder.get("text"))
    for item in _dicts(value.get("output")):  # a response
        found += [part.get("text") for part in _dicts(item.get("content"))]
    found += [part.get("text") for part in _dicts(value.get("content"))]  # a message
    delta = value.get("delta")  # an event of either
    found.append(delta.get("text") if isinstance(delta, dict) else delta)
    return "".join(one for one in found if isinstance(one, str))


def _parts(message: JsonObject, text: _Text) -> list[JsonObject]:
    content, answers = message.get("content"), message.get("tool_call_id")
    parts: list[JsonObject] = []
    if isinstance(content, str):
        if isinstance(answers, str):
            parts.append({"type": "tool_call_response", "id": answers[:64], "response": text.cut(content)})
        else:
            parts.append({"type": "text", "content": text.cut(content)})
    for part in _dicts(content)[:_PARTS_AT_MOST]:
        kind = part.get("type")
        if isinstance(part.get("text"), str):
            parts.append({"type": "text", "content": text.cut(part["text"])})
        elif isinstance(kind, str):
            parts.append({"type": kind[:32]})  # an image is only named
    for call in _dicts(message.get("tool_calls"))[:_PARTS_AT_MOST]:
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        name, arguments = text.cut(function.get("name")), text.cut(function.get("arguments"))
        parts.append({"type": "tool_call", "name": name, "arguments": arguments})
    return parts


def _dicts(value: Any) -> list[JsonObject]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # half of a surrogate pair
        return ""
