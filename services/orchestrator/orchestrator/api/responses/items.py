"""Turns the input items of a response into the messages of a chat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from ...chat.carried import carries
from ...errors import InvalidRequest
from ...protocol import JsonObject, ToolCall
from .mcp import OWN_LABEL

_ROLES = ("user", "assistant", "system", "developer")
_TEXT_PARTS = ("input_text", "output_text", "text", "reasoning_text", "summary_text")
_IGNORED = ("mcp_list_tools",)
_KNOWN = (
    "message", "reasoning", "function_call", "function_call_output", "mcp_call", "mcp_list_tools",
    "mcp_approval_request", "mcp_approval_response",
)  # fmt: skip


NameOf = Callable[[Any, Any], str | None]
"""Returns the name in chat of a tool by the label of its server and its name there, if it is known."""


@dataclass(slots=True)
class Input:
    """A request's input as a chat.

    Attributes:
        messages: the messages.
        approved: calls that the client has approved, and that have not been run yet.
        listed: the labels of the servers whose tools the input lists.
    """

    messages: list[JsonObject]
    approved: list[ToolCall] = field(default_factory=list)
    listed: set[str] = field(default_factory=set)


def read_input(
    given: str | list[Any], instructions: str | None, name_of: NameOf = lambda _label, _name: None
) -> Input:
    """Returns a request's `instructions` and `input`.

    Raises:
        InvalidRequest: an item is malformed, or only OpenAI or the engine's own route knows it.
    """
    chat = _Chat(name_of)
    if instructions:
        chat.messages.append({"role": "system", "content": instructions})
    if isinstance(given, str):
        chat.messages.append({"role": "user", "content": given})
    else:
        for index, item in enumerate(given):
            chat.add(item, f"input[{index}]")
    items = [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []
    listings = [item for item in items if item.get("type") == "mcp_list_tools"]
    return Input(
        chat.messages, list(chat.approved.values()), {str(item.get("server_label")) for item in listings}
    )


class _Chat:
    """Messages, of which the last one may still grow: an assistant's message is several items."""

    def __init__(self, name_of: NameOf) -> None:
        self.messages: list[JsonObject] = []
        self.approved: dict[str, ToolCall] = {}
        self._requests: dict[str, JsonObject] = {}
        self._name_of = name_of
        self._growing: JsonObject | None = None
        self._ran: set[str] = set()  # calls that the server has run
        self._start = 0  # of the messages that answer the last of the client's

    def add(self, item: Any, where: str) -> None:
        if not isinstance(item, dict):
            raise InvalidRequest(f"{where} must be an object such as a message", param=where)
        kind = item.get("type") or ("message" if "role" in item else None)
        if kind == "message":
            self._add_message(item, where)
        elif kind == "reasoning":
            text = _texts(item.get("content") or item.get("summary") or [], where)
            message = self._assistant("content", "tool_calls")
            message["reasoning"] = message.get("reasoning", "") + text
        elif kind == "function_call":
            self._add_function_call(item, where)
        elif kind == "function_call_output":
            self._add_output(_string(item, "call_id", where), item.get("output"), f"{where}.output")
            self._start = len(self.messages)
        elif kind == "mcp_call":
            self._add_mcp_call(item, where)
        elif kind == "mcp_approval_response":
            self._add_approval(item, where)
        elif kind == "mcp_approval_request":
            self._requests[_string(item, "id", where)] = item
        elif kind == "item_reference":
            raise InvalidRequest(
                f"{where} refers to the item {str(item.get('id'))[:80]!r}, which is not stored: send the "
                "item itself. SDKs do so with `store: false`.",
                param=where,
            )
        elif kind not in _IGNORED:
            raise InvalidRequest(
                f"{where} is of type {str(kind)[:80]!r}, which this server does not keep or run; "
                f"it knows {', '.join(_KNOWN)}",
                param=where,
            )

    def _assistant(self, *parts: str) -> JsonObject:
        """Returns the assistant's message that the next item belongs to.

        Args:
            parts: what that message may not have yet.
        """
        if self._growing is None or any(part in self._growing for part in parts):
            self._growing = {"role": "assistant"}
            self.messages.append(self._growing)
        return self._growing

    def _append(self, message: JsonObject) -> None:
        self._growing = None
        self.messages.append(message)

    def _add_message(self, item: JsonObject, where: str) -> None:
        role = item.get("role")
        if role not in _ROLES:
            raise InvalidRequest(
                f"{where}.role must be one of {', '.join(_ROLES)}, not {str(role)[:80]!r}",
                param=f"{where}.role",
            )
        content = item.get("content")
        if role == "assistant":
            self._assistant("content", "tool_calls")["content"] = _texts(content, f"{where}.content")
        else:
            self._append({"role": role, "content": _content(content, f"{where}.content")})
            self._start = len(self.messages)

    def _add_function_call(self, item: JsonObject, where: str) -> None:
        call_id, name = _string(item, "call_id", where), _string(item, "name", where)
        if carries(call_id):
            self._merge_turns()
        self._add_call(call_id, name, item, where)

    def _merge_turns(self) -> None:
        """Makes one message of the turns whose calls the id of the client's call carries.

        The items of those calls need not be there, or without their results: not all clients repeat them.
        """
        turns = [message for message in self.messages[self._start :] if message["role"] == "assistant"]
        del self.messages[self._start :]
        self._growing = None
        for name in ("reasoning", "content"):
            if texts := [message[name] for message in turns if message.get(name)]:
                self._assistant()[name] = "\n\n".join(texts)
        calls = [call for message in turns for call in message.get("tool_calls", ())]
        if kept := [call for call in calls if call["id"] not in self._ran]:
            self._assistant()["tool_calls"] = kept

    def _add_mcp_call(self, item: JsonObject, where: str) -> None:
        id, name = _string(item, "id", where), self._mcp_name(item, where)
        self.approved.pop(str(item.get("approval_request_id")), None)  # it has been run
        if item.get("output") is None and not item.get("error"):
            return  # some clients leave out the results, since OpenAI stores them
        self._ran.add(id)
        self._add_call(id, name, item, where)
        self._add_output(id, _mcp_output(item), f"{where}.output")

    def _add_call(self, call_id: str, name: str, item: JsonObject, where: str) -> None:
        arguments = _object_text(item.get("arguments"), f"{where}.arguments")
        calls = self._assistant().setdefault("tool_calls", [])
        calls.append({"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}})

    def _mcp_name(self, item: JsonObject, where: str) -> str:
        label, name = _string(item, "server_label", where), _string(item, "name", where)
        return self._name_of(label, name) or (name if label == OWN_LABEL else f"{label}__{name}")

    def _add_approval(self, item: JsonObject, where: str) -> None:
        """Notes a call to run, or adds a result that says that the user rejected it."""
        id = _string(item, "approval_request_id", where)
        asked = self._requests.get(id)
        if asked is None:
            raise InvalidRequest(
                f"{where}.approval_request_id {id[:80]!r} is not the id of an mcp_approval_request before "
                "it; send the items of the response that asks for it, too",
                param=f"{where}.approval_request_id",
            )
        name = self._mcp_name(asked, where)
        if item.get("approve") is True:
            self._start = len(self.messages)
            self.approved[id] = ToolCall(id, name, _object_text(asked.get("arguments"), where))
            return
        reason = item.get("reason")
        note = f"The user rejected this call{f': {reason}' if isinstance(reason, str) else '.'}"
        self._add_call(id, name, asked, where)
        self._add_output(id, orjson.dumps({"error": note}).decode(), where)
        self._start = len(self.messages)

    def _add_output(self, call_id: str, output: Any, where: str) -> None:
        self._append({"role": "tool", "tool_call_id": call_id, "content": _content(output, where)})


def _string(item: JsonObject, field: str, where: str) -> str:
    value = item.get(field)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{where}.{field} must be a string", param=f"{where}.{field}")
    return value


def _object_text(arguments: Any, where: str) -> str:
    if arguments is not None and not isinstance(arguments, str):
        raise InvalidRequest(f"{where} must be a string with JSON", param=where)
    return valid_arguments(arguments)


def valid_arguments(arguments: str | None) -> str:
    """Returns a call's arguments; `{}` for those that the model wrote wrongly, which nobody can read."""
    try:
        return arguments if arguments and isinstance(orjson.loads(arguments), dict) else "{}"
    except orjson.JSONDecodeError:
        return "{}"


def _mcp_output(item: JsonObject) -> Any:
    error = item.get("error")
    if isinstance(error, dict):
        content = error.get("content")
        texts = (
            [part.get("text") for part in content if isinstance(part, dict)]
            if isinstance(content, list)
            else []
        )
        return "".join(text for text in texts if isinstance(text, str)) or str(
            error.get("message") or "error"
        )
    return orjson.dumps({"error": error}).decode() if error else item.get("output") or ""


def _texts(content: Any, where: str) -> str:
    """Returns the text of content that consists of texts."""
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(_parts(content, where)):
        kind = part.get("type")
        text = part.get("refusal") if kind == "refusal" else part.get("text")
        if kind not in (*_TEXT_PARTS, "refusal") or not isinstance(text, str):
            raise InvalidRequest(f"{where}[{index}] must be a part with text", param=f"{where}[{index}]")
        texts.append(text)
    return "".join(texts)


def _content(content: Any, where: str) -> str | list[JsonObject]:
    """Returns a message's content as the engine's chat route takes it."""
    if isinstance(content, str):
        return content
    parts = [_part(part, f"{where}[{index}]") for index, part in enumerate(_parts(content, where))]
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return parts


def _parts(content: Any, where: str) -> list[JsonObject]:
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise InvalidRequest(f"{where} must be a string or a list of parts", param=where)
    return content


def _part(part: JsonObject, where: str) -> JsonObject:
    kind = part.get("type")
    if kind in _TEXT_PARTS and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    if kind == "input_audio" and isinstance(part.get("input_audio"), dict):
        return {"type": "input_audio", "input_audio": part["input_audio"]}
    raise InvalidRequest(
        f"{where} must be input_text with text, input_image with image_url, or input_audio; "
        f"it is {str(kind)[:80]!r}. Files of OpenAI's Files API are not known here.",
        param=where,
    )
