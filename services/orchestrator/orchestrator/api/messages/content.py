"""Turns Anthropic's messages into those of a chat. A message of theirs may become several."""

from __future__ import annotations

from typing import Any

from ...errors import InvalidRequest
from ...protocol import JsonObject, dumps

OWN_SERVER = "tandem"
"""The server's name in blocks of the tools that are this server's own."""

_BILLING = "x-anthropic-billing-header"
"""The start of a text that Claude Code adds, which differs in every request and would defeat the cache."""

_SILENT = ("redacted_thinking", "tool_reference")
_KNOWN = "text, image, thinking, tool_use, tool_result, mcp_tool_use and mcp_tool_result"


def messages_of(messages: Any, system: Any) -> list[JsonObject]:
    """Returns the messages for a request's `system` and `messages`.

    Raises:
        InvalidRequest: a message is malformed, or has content that this server does not know.
    """
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("messages must be a list with at least one message", param="messages")
    chat: list[JsonObject] = []
    if system and (text := _system_text(system, "system")):
        chat.append({"role": "system", "content": text})
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant", "system"):
            raise InvalidRequest(
                f"{where}.role must be user, assistant or system, not {str(role)[:80]!r}",
                param=f"{where}.role",
            )
        content = message.get("content")
        if role == "system":
            chat.append({"role": "system", "content": _system_text(content, f"{where}.content")})
        elif isinstance(content, str):
            chat.append({"role": role, "content": content})
        else:
            read = _read_assistant if role == "assistant" else _read_user
            chat += read(_blocks(content, f"{where}.content"), f"{where}.content")
    return chat


def call_name(block: JsonObject) -> Any:
    """Returns the name of a call's tool in this server: those of other servers have a prefix."""
    server = block.get("server_name")
    return block.get("name") if server in (None, OWN_SERVER) else f"{server}__{block.get('name')}"


def _blocks(content: Any, where: str) -> list[JsonObject]:
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise InvalidRequest(f"{where} must be a string or a list of blocks", param=where)
    return content


def _system_text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    texts = [block.get("text") for block in _blocks(content, where) if block.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str) and not text.startswith(_BILLING))


def _read_assistant(blocks: list[JsonObject], where: str) -> list[JsonObject]:
    """Returns an assistant's turns, with the results of the calls that the server has run between them."""
    chat: list[JsonObject] = []
    message: JsonObject = {}
    for index, block in enumerate(blocks):
        kind = block.get("type")
        if kind == "mcp_tool_result":
            chat.append(_result(block, f"{where}[{index}]"))
            message = {}
            continue
        if kind in _SILENT:
            continue
        starts = kind in ("text", "thinking") and "tool_calls" in message
        if not message or starts:
            message = {"role": "assistant", "content": None}
            chat.append(message)
        if kind == "text":
            message["content"] = (message["content"] or "") + _string(block, "text", f"{where}[{index}]")
        elif kind == "thinking":
            text = _string(block, "thinking", f"{where}[{index}]")
            message["reasoning"] = message.get("reasoning", "") + text
        elif kind in ("tool_use", "mcp_tool_use"):
            message.setdefault("tool_calls", []).append(_call(block, f"{where}[{index}]"))
        else:
            raise _unknown(kind, f"{where}[{index}]")
    return chat


def _read_user(blocks: list[JsonObject], where: str) -> list[JsonObject]:
    """Returns the results of the client's calls, then the user's own message."""
    results: list[JsonObject] = []
    parts: list[JsonObject] = []
    for index, block in enumerate(blocks):
        place = f"{where}[{index}]"
        if block.get("type") in ("tool_result", "mcp_tool_result"):
            results.append(_result(block, place))
            parts += _images(block.get("content"), place)
        else:
            parts.append(_part(block, place))
    if len(parts) == 1 and parts[0]["type"] == "text":
        return [*results, {"role": "user", "content": parts[0]["text"]}]
    return [*results, {"role": "user", "content": parts}] if parts else results


def _string(block: JsonObject, field: str, where: str) -> str:
    value = block.get(field)
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}.{field} must be a string", param=f"{where}.{field}")
    return value


def _call(block: JsonObject, where: str) -> JsonObject:
    given = block.get("input") or {}
    if not isinstance(given, dict):
        raise InvalidRequest(f"{where}.input must be an object", param=f"{where}.input")
    _string(block, "name", where)
    function = {"name": call_name(block), "arguments": dumps(given).decode()}
    return {"id": _string(block, "id", where), "type": "function", "function": function}


def _result(block: JsonObject, where: str) -> JsonObject:
    content = block.get("content") or ""
    if not isinstance(content, str):
        texts = [item.get("text") for item in _blocks(content, f"{where}.content")]
        content = "\n".join(text for text in texts if isinstance(text, str))
    return {"role": "tool", "tool_call_id": _string(block, "tool_use_id", where), "content": content}


def _images(content: Any, where: str) -> list[JsonObject]:
    """Returns the images of a result, which a message of the user has to carry."""
    if not isinstance(content, list):
        return []
    return [_part(item, where) for item in _blocks(content, where) if item.get("type") == "image"]


def _part(block: JsonObject, where: str) -> JsonObject:
    kind = block.get("type")
    if kind == "text":
        return {"type": "text", "text": _string(block, "text", where)}
    source = block.get("source")
    if kind == "image" and isinstance(source, dict):
        if source.get("type") == "url":
            return {"type": "image_url", "image_url": {"url": _string(source, "url", f"{where}.source")}}
        if source.get("type") == "base64":
            data = _string(source, "data", f"{where}.source")
            media = _string(source, "media_type", f"{where}.source")
            return {"type": "image_url", "image_url": {"url": f"data:{media};base64,{data}"}}
    raise _unknown(kind, where)


def _unknown(kind: Any, where: str) -> InvalidRequest:
    return InvalidRequest(
        f"{where} is of type {str(kind)[:80]!r}, which this server does not know; it knows {_KNOWN}",
        param=where,
    )
