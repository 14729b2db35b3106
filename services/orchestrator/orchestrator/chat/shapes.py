"""Reads engines' answers that do not have OpenAI's shape, as far as their meaning is clear.

`ODD_SHAPES` lists what is read and what is an error; the tests and docs/compatibility.md use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from ..errors import EngineFailed
from ..protocol import JsonObject, dumps

_KINDS = {
    dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number",
    type(None): "null",
}  # fmt: skip


def choice_of(chunk: JsonObject) -> JsonObject | None:
    """Returns the first choice of a chunk, None if it has no choice.

    Raises:
        EngineFailed: the choices are not readable.
    """
    choices = chunk.get("choices")
    if not choices:
        return None
    choice = choices[0] if type(choices) is list else choices
    if not isinstance(choice, dict):
        _reject("choices", choices)
    return choice


def message_of(choice: JsonObject) -> JsonObject:
    """Returns the delta or message of a choice.

    Raises:
        EngineFailed: it is not readable.
    """
    message = choice.get("delta") or choice.get("message") or {}
    if type(message) is dict and message and not message.get("function_call"):
        return message  # the usual shape, at little cost per chunk
    if isinstance(message, str):
        return {"content": message}
    if not isinstance(message, dict):
        _reject("message", message)
    if not message and isinstance(choice.get("text"), str):
        return {"content": choice["text"]}
    if message.get("function_call"):  # OpenAI's form before there were several calls
        calls = message.get("tool_calls") or {"function": message["function_call"]}
        return {**message, "function_call": None, "tool_calls": calls}
    return message


def text_of(value: Any, field: str) -> Any:
    """Returns the text in `value`: a string, or the joined texts of a list of parts. None stays None.

    Raises:
        EngineFailed: it is not readable.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(text_of(part, field) for part in value if part is not None)
    if not isinstance(value, dict):
        _reject(field, value)
    text = value.get("text")
    return text if isinstance(text, str) else ""  # a part that is an image, for example


def calls_of(value: Any) -> list[JsonObject]:
    """Returns a list of calls or of parts of them.

    Raises:
        EngineFailed: it is not readable.
    """
    calls = value if isinstance(value, list) else [value]
    for call in calls:
        if type(call) is not dict or not call:
            if call not in (None, {}):
                _reject("tool_calls", value)
            return calls_of([call for call in calls if call not in (None, {})])
    return calls


def function_of(call: JsonObject) -> JsonObject:
    """Returns the function in a call, with its name and arguments as text.

    Raises:
        EngineFailed: it is not readable.
    """
    function = call.get("function")
    if type(function) is dict:
        arguments = function.get("arguments", "")
        if type(arguments) is str and type(function.get("name", "")) is str:
            return function  # the usual shape, at little cost per part
    if function is None:
        function = {key: call[key] for key in ("name", "arguments") if key in call}
    if not isinstance(function, dict):
        _reject("tool_calls.function", function)
    function = {key: value for key, value in function.items() if value is not None}
    if "arguments" in function and not isinstance(function["arguments"], str):
        function["arguments"] = dumps(function["arguments"]).decode()
    if not isinstance(function.get("name", ""), str):
        _reject("tool_calls.function.name", function["name"])
    return function


def index_of(call: JsonObject, position: int) -> int:
    """Returns the index of a call, or its position in the list if there is none."""
    index = call.get("index")
    if isinstance(index, str) and index.isdecimal():
        return int(index)
    return int(index) if isinstance(index, (int, float)) else position


def reject_nameless_call() -> NoReturn:
    raise EngineFailed("The engine's answer has a tool call without a name")


def _reject(field: str, value: Any) -> NoReturn:
    raise EngineFailed(f"The engine's answer cannot be read: {field} is {_KINDS[type(value)]}")


@dataclass(frozen=True, slots=True)
class OddShape:
    """An odd shape and how it is read.

    Attributes:
        place: the part of the answer: `answer`, `choice` or `message`.
        example: that part's fields.
        reading: what it is read as.
        text: the text that the client gets.
        calls: the names and arguments of the calls that are read.
    """

    place: str
    example: JsonObject
    reading: str
    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()


_CALL = (("calculate_math", '{"expression":"1+1"}'),)
_EMPTY_CALL = (("calculate_math", "{}"),)
_ARGUMENTS = {"expression": "1+1"}
_FUNCTION = {"name": "calculate_math", "arguments": '{"expression":"1+1"}'}
_ERROR = "502 with the reason"


def _calling(**fields: Any) -> JsonObject:
    return {"tool_calls": [{"id": "a", "function": _FUNCTION, **fields}]}


ODD_SHAPES = (
    OddShape("answer", {"choices": []}, _ERROR),
    OddShape("answer", {"choices": None}, _ERROR),
    OddShape("answer", {"choices": "x"}, _ERROR),
    OddShape("answer", {"choices": [None]}, _ERROR),
    OddShape("answer", {"choices": {"message": {"content": "Hi"}}}, "the only choice", "Hi"),
    OddShape("answer", {"usage": "none"}, "no usage", "Hi"),
    OddShape("answer", {"usage": {"prompt_tokens": None, "completion_tokens": "3"}}, "no usage", "Hi"),
    OddShape("answer", {"id": None, "model": 1, "created": "now"}, "as it is", "Hi"),
    OddShape("choice", {"message": None}, "no text"),
    OddShape("choice", {"message": "Hi"}, "the text", "Hi"),
    OddShape("choice", {"text": "Hi"}, "the text", "Hi"),
    OddShape("choice", {"message": ["Hi"]}, _ERROR),
    OddShape("choice", {"message": {"content": "Hi"}, "finish_reason": None}, "`stop`", "Hi"),
    OddShape("choice", {"message": {"content": "Hi"}, "finish_reason": {"type": "stop"}}, "`stop`", "Hi"),
    OddShape("message", {"content": [{"type": "text", "text": "Hi"}, None, " ", {}]}, "the texts", "Hi "),
    OddShape("message", {"content": {"type": "text", "text": "Hi"}}, "the text", "Hi"),
    OddShape("message", {"content": 1}, _ERROR),
    OddShape("message", {"content": "Hi", "reasoning": [{"text": "Hm"}]}, "the texts", "Hi"),
    OddShape("message", {"content": "Hi", "reasoning": True}, _ERROR),
    OddShape("message", {"content": "Hi", "role": None}, "`assistant`", "Hi"),
    OddShape("message", {"content": "Hi", "tool_calls": {}}, "no calls", "Hi"),
    OddShape("message", {"content": "Hi", "tool_calls": [None, {}]}, "no calls", "Hi"),
    OddShape("message", {"tool_calls": {"id": "a", "function": _FUNCTION}}, "the only call", "", _CALL),
    OddShape("message", {"tool_calls": "x"}, _ERROR),
    OddShape("message", {"tool_calls": ["x"]}, _ERROR),
    OddShape("message", {"function_call": _FUNCTION}, "a call", "", _CALL),
    OddShape("message", {"tool_calls": [{"id": "a", **_FUNCTION}]}, "a call", "", _CALL),
    OddShape("message", _calling(function="x"), _ERROR),
    OddShape("message", _calling(function={"arguments": "{}"}), _ERROR),
    OddShape("message", _calling(function={"name": 1}), _ERROR),
    OddShape("message", _calling(function={**_FUNCTION, "arguments": _ARGUMENTS}), "JSON text", "", _CALL),
    OddShape("message", _calling(function={**_FUNCTION, "arguments": None}), "`{}`", "", _EMPTY_CALL),
    OddShape("message", _calling(function={**_FUNCTION, "arguments": [1]}), "no object", "", _EMPTY_CALL),
    OddShape("message", _calling(id=None), "a new id", "", _CALL),
    OddShape("message", _calling(id=7), "`7` as a string", "", _CALL),
    OddShape("message", _calling(index=None, type=None), "the position in the list", "", _CALL),
    OddShape("message", _calling(index="0"), "the number", "", _CALL),
)  # fmt: skip
"""Shapes that engines, proxies and models have been seen to send, and their like."""
