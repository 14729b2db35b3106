"""Checks the types of a request's fields as pydantic does inside vLLM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import bad_request, invalid, problem

JsonObject = dict[str, Any]


def _number(loc: str, value: Any) -> JsonObject | None:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            message = "Input should be a valid number, unable to parse string as a number"
            return problem("float_parsing", loc, message, value)
        return None
    fine = isinstance(value, int | float)
    return None if fine else problem("float_type", loc, "Input should be a valid number", value)


def _integer(loc: str, value: Any) -> JsonObject | None:
    if isinstance(value, str) and not value.lstrip("-").isdigit():
        message = "Input should be a valid integer, unable to parse string as an integer"
        return problem("int_parsing", loc, message, value)
    if isinstance(value, float) and not value.is_integer():
        message = "Input should be a valid integer, got a number with a fractional part"
        return problem("int_from_float", loc, message, value)
    fine = isinstance(value, int | float | str)
    return None if fine else problem("int_type", loc, "Input should be a valid integer", value)


def _boolean(loc: str, value: Any) -> JsonObject | None:
    message = "Input should be a valid boolean, unable to interpret input"
    return None if isinstance(value, bool) else problem("bool_parsing", loc, message, value)


def _string(loc: str, value: Any) -> JsonObject | None:
    fine = isinstance(value, str)
    return None if fine else problem("string_type", loc, "Input should be a valid string", value)


def _list(loc: str, value: Any) -> JsonObject | None:
    fine = isinstance(value, list)
    return None if fine else problem("list_type", loc, "Input should be a valid list", value)


def _object(loc: str, value: Any) -> JsonObject | None:
    message = "Input should be a valid dictionary"
    return None if isinstance(value, dict) else problem("dict_type", loc, message, value)


def _stop(loc: str, value: Any) -> JsonObject | None:
    if isinstance(value, list):
        return next((found for one in value if (found := _string(loc, one))), None)
    return _string(loc, value)


Check = Callable[[str, Any], JsonObject | None]
SAMPLING_FIELDS: dict[str, Check] = {
    "model": _string,
    "temperature": _number,
    "top_p": _number,
    "presence_penalty": _number,
    "frequency_penalty": _number,
    "n": _integer,
    "max_tokens": _integer,
    "max_completion_tokens": _integer,
    "seed": _integer,
    "stop": _stop,
    "stream": _boolean,
    "stream_options": _object,
}
CHAT_FIELDS: dict[str, Check] = SAMPLING_FIELDS | {
    "messages": _list,
    "tools": _list,
    "parallel_tool_calls": _boolean,
    "response_format": _object,
    "logprobs": _boolean,
    "top_logprobs": _integer,
}


def check_fields(body: JsonObject, checks: dict[str, Check], needed: tuple[str, ...]) -> None:
    problems = [problem("missing", f"body.{n}", "Field required", body) for n in needed if n not in body]
    for name, check in checks.items():
        given = body.get(name) is not None or (name in needed and name in body)
        if given and (found := check(f"body.{name}", body[name])):
            problems.append(found)
    if isinstance(body.get("tools"), list):
        problems += [p for i, tool in enumerate(body["tools"]) for p in _tool(f"body.tools.{i}", tool)]
    if problems:
        raise invalid(*problems)


def _tool(loc: str, tool: Any) -> list[JsonObject]:
    if not isinstance(tool, dict):
        return [problem("dict_type", loc, "Input should be a valid dictionary", tool)]
    found = []
    if tool.get("type", "function") != "function":
        message = "Input should be 'function'"
        found.append(problem("literal_error", f"{loc}.type", message, tool["type"], expected="'function'"))
    function = tool.get("function")
    if not isinstance(function, dict):
        found.append(problem("missing", f"{loc}.function", "Field required", tool))
    else:
        found += _function(f"{loc}.function", function)
    return found


def _function(loc: str, function: JsonObject) -> list[JsonObject]:
    if "name" not in function:
        return [problem("missing", f"{loc}.name", "Field required", function)]
    checks = (("name", _string), ("description", _string), ("parameters", _object))
    found = [check(f"{loc}.{key}", function[key]) for key, check in checks if function.get(key) is not None]
    found += [_string(f"{loc}.name", None)] if function["name"] is None else []
    return [one for one in found if one]


def check_messages(messages: list[Any]) -> None:
    """Rejects messages without a role, or whose calls are not a list."""
    problems: list[JsonObject | None] = []
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            problems.append(problem("missing", f"body.messages.{i}.role", "Field required", message))
        elif message.get("tool_calls") is not None:
            problems.append(_list(f"body.messages.{i}.tool_calls", message["tool_calls"]))
    if found := [one for one in problems if one]:
        raise invalid(*found)


def check_text_only(messages: list[JsonObject], model: str) -> None:
    for message in messages:
        parts = message.get("content")
        if isinstance(parts, list) and any(
            isinstance(part, dict) and part.get("type", "text") not in _TEXT_PARTS for part in parts
        ):
            raise bad_request(f"{model} is not a multimodal model")


_TEXT_PARTS = ("text", "input_text", "output_text", "refusal", "thinking")
