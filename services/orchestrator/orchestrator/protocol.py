"""The wire format: chat requests, tool calls, usage, and the framing of event streams."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic_core import from_json, to_json

from .errors import InvalidRequest

JsonObject = dict[str, Any]

DONE = b"data: [DONE]\n\n"
_NUMBER = (int, float)
_COUNT_AT_MOST = 2**53  # JSON encoders, and JavaScript, have limits
NAME_AT_MOST = 256
_DEPTH_AT_MOST = 254  # orjson reads 1,024 levels but writes 254
_SHOWN_CHARACTERS = 80
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG = b"0" * 19  # the shortest integer that may exceed 64 bits has 19 digits
_SAMPLE = 6  # of so many bytes, one is enough to rule out such an integer, in a fifth of the time
_LONG_SAMPLE = b"0" * 3


def loads(data: bytes) -> Any:
    """The JSON value in `data`. Integers of any size are exact; orjson turns those above 64 bits into floats.

    Raises:
        orjson.JSONDecodeError: the data is not JSON.
    """
    return exact(orjson.loads(data), data)


def exact(value: Any, data: bytes) -> Any:
    """The value that orjson parsed from `data`, with exact integers. For values that are encoded again."""
    if _LONG_SAMPLE in data[::_SAMPLE].translate(_ZEROS) and _LONG in data.translate(_ZEROS):
        with contextlib.suppress(ValueError):
            return from_json(data, allow_inf_nan=False)
    return value


def dumps(value: Any) -> bytes:
    """The value as JSON. Integers may have any size; orjson rejects those above 64 bits.

    Raises:
        ValueError: the value is nested too deeply.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return to_json(value)


def parse_object(body: bytes) -> JsonObject:
    """The JSON object in `body`.

    Raises:
        InvalidRequest: the body is not UTF-8, not JSON, nested too deeply, or not an object.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise InvalidRequest(
            f"The request body must be a JSON object, not {_kind(value)}", code="invalid_json"
        )
    if _many(b"[", body) or _many(b"{", body):
        _check_depth(value)
    return value


def _many(bracket: bytes, body: bytes) -> bool:
    """Whether so many of a bracket occur that half of the permitted levels could be theirs.

    In 50 KB, `replace` finds them nine times as fast as `count`, and it stops when there are enough.
    """
    most = _DEPTH_AT_MOST // 2
    return len(body) - len(body.replace(bracket, b"", most)) == most


def _check_depth(request: JsonObject) -> None:
    """
    Raises:
        InvalidRequest: the request is nested more deeply than it could be encoded again.
    """
    if _too_deep(request):
        where = next((name for name, value in request.items() if _too_deep([value])), None)
        raise InvalidRequest(
            f"{where} is nested too deeply: a request may have {_DEPTH_AT_MOST} levels of lists and objects",
            param=where,
            code="nested_too_deeply",
        )


def _too_deep(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        return "Recursion limit" in str(error) or _fails(value)
    return False


def _fails(value: Any) -> bool:
    """Whether a value with a large integer cannot be encoded either way."""
    try:
        to_json(value)
    except ValueError:
        return True
    return False


def check_chat_request(request: JsonObject) -> None:
    """Checks the fields that the orchestrator reads; the engine checks the rest.

    Raises:
        InvalidRequest: a field is invalid; the message names it, its value and what is allowed.
    """
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        found = "an empty list" if messages == [] else "missing" if messages is None else _kind(messages)
        raise InvalidRequest(
            f"messages must be a list with at least one message; it is {found}", param="messages"
        )
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InvalidRequest(
                f"messages[{index}] must be an object, not {_kind(message)}", param=f"messages[{index}]"
            )
    for field, kind in (("stream", bool), ("stream_options", dict), ("model", str)):
        value = request.get(field)
        if value is not None and not isinstance(value, kind):
            wanted = {bool: "true or false", dict: "an object", str: "a string"}[kind]
            raise InvalidRequest(f"{field} must be {wanted}, not {_kind(value)}", param=field)
    if request.get("tools") is not None:
        _check_tools(request["tools"])


def _check_tools(tools: Any) -> None:
    """Checks the fields of tools that the orchestrator reads.

    Clients' schemas are left to the engine: compiling one here could make the server fetch what it refers to.
    """
    if not isinstance(tools, list):
        raise InvalidRequest(f"tools must be a list, not {_kind(tools)}", param="tools")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise _invalid_tool(f"tools[{index}]", "an object", tool)
        if tool.get("type", "function") != "function":
            continue
        function = tool.get("function")
        if not isinstance(function, dict):
            raise _invalid_tool(f"tools[{index}].function", "an object with a name", function)
        name = function.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= NAME_AT_MOST:
            wanted = f"a string of 1 to {NAME_AT_MOST} characters"
            raise _invalid_tool(f"tools[{index}].function.name", wanted, name)


def _invalid_tool(where: str, wanted: str, value: Any) -> InvalidRequest:
    return InvalidRequest(f"{where} must be {wanted}, not {_show(value)}", param=where)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _show(value: Any) -> str:
    if not isinstance(value, str):
        return _kind(value)
    return repr(value) if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]!r}…"


@dataclass(slots=True)
class ToolCall:
    """One call by the model. `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str

    def wire(self, arguments: str | None = None) -> JsonObject:
        text = self.arguments if arguments is None else arguments
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": text}}


def add_usage(total: JsonObject, more: JsonObject | None) -> JsonObject:
    """The sum of two usage objects, including nested details. Missing counts are 0."""
    if not total:
        return dict(more or {})
    result = dict(total)
    for key, value in (more or {}).items():
        before = result.get(key)
        if before is None:
            result[key] = value
        elif isinstance(value, dict):
            result[key] = add_usage(before if isinstance(before, dict) else {}, value)
        elif isinstance(value, _NUMBER) and isinstance(before, _NUMBER):
            result[key] = min(before + value, _COUNT_AT_MOST)
    return result


def without_lists(usage: JsonObject) -> JsonObject:
    """The usage without vLLM's lists of counts per turn; OpenAI's types have numbers only."""
    return {
        key: without_lists(value) if isinstance(value, dict) else value
        for key, value in usage.items()
        if not isinstance(value, list)
    }


def event(payload: JsonObject) -> bytes:
    """One server-sent event with `payload` as its data."""
    return b"data: " + dumps(payload) + b"\n\n"


class EventBuffer:
    """Splits a byte stream into whole server-sent events, wherever the reads happen to end."""

    __slots__ = ("_end", "_limit", "_parts", "_size")

    def __init__(self, limit: int = 16_777_216) -> None:
        self._parts: list[bytes] = []  # of the incomplete event
        self._size = 0
        self._end = b""  # of the last part, where a line ending may have started; includes a pending CR
        self._limit = limit

    def feed(self, data: bytes) -> bytes:
        """Adds `data` and returns all events that are now complete, each ending in a blank line.

        Line endings become `\\n`. JSON is unaffected, since it contains no raw control characters.

        Raises:
            ValueError: one event is longer than the limit in bytes.
        """
        data = self._end + data if self._end else data
        held = b""
        if b"\r" in data:
            if data.endswith(b"\r"):
                data, held = data[:-1], b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = data.rfind(b"\n\n") + 2
        if end == 1:
            self._hold(data, held)
            return b""
        block = b"".join([*self._parts, data[:end]]) if self._parts else data[:end]
        self._parts, self._size = [], 0
        self._hold(data[end:], held)
        return block

    def _hold(self, data: bytes, held: bytes) -> None:
        """Keeps the start of an event. Only its last byte is read again."""
        if len(data) > 1:
            self._parts.append(data[:-1])
            self._size += len(data) - 1
        self._end = data[-1:] + held
        if self._size + len(self._end) > self._limit:
            raise ValueError(f"one event is longer than {self._limit} bytes")

    @property
    def empty(self) -> bool:
        return not self._end.strip() and not any(part.strip() for part in self._parts)


def payloads(block: bytes) -> Iterator[bytes]:
    """The data of each event in a block of whole events; events without data are skipped.

    Raises:
        ValueError: a line is not a part of an event. A client would skip it, and miss its content.
    """
    for raw in block.split(b"\n\n"):
        if raw.startswith(b"data: ") and b"\n" not in raw:
            yield raw[6:]
            continue
        lines = raw.split(b"\n")
        wrong = next((line for line in lines if line and not line.startswith(_FIELDS)), None)
        if wrong is not None:
            raise ValueError(f"a line is not part of an event: {wrong[:80]!r}")
        data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
        if data:
            yield b"\n".join(data)
