"""Applies `tool_choice` and the tools of a request to each other where vLLM would reject or misread them."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidRequest
from ..protocol import JsonObject

_MODES = ("auto", "required")
_EXAMPLE = (
    '{"type": "allowed_tools", "allowed_tools": {"mode": "auto", '
    '"tools": [{"type": "function", "function": {"name": "my_function"}}]}}'
)


def function_name(tool: Any) -> str | None:
    """Returns the name of a function tool, None for anything else."""
    if not isinstance(tool, dict) or tool.get("type", "function") != "function":
        return None
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def drop_choice_without_tools(request: JsonObject) -> None:
    """Removes a `tool_choice` that says nothing without tools, where vLLM would reject it."""
    if request.get("tool_choice") in ("auto", "none", None):
        request.pop("tool_choice", None)


def withhold_tools(request: JsonObject) -> None:
    """Removes the tools for `tool_choice: "none"`: a model that knows them calls them in its text."""
    for field in ("tools", "tool_choice", "parallel_tool_calls"):
        request.pop(field, None)


def apply_allowed_tools(request: JsonObject) -> bool:
    """Replaces OpenAI's `allowed_tools`, which vLLM does not know, by these tools alone and a plain choice.

    Returns:
        Whether the request has such a choice.

    Raises:
        InvalidRequest: the choice is malformed, or names a tool that the request does not have.
    """
    choice = request.get("tool_choice")
    if not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
        return False
    inner = choice.get("allowed_tools")
    allowed = inner if isinstance(inner, dict) else choice  # without the inner object in the Responses API
    mode, entries = allowed.get("mode"), allowed.get("tools")
    if mode not in _MODES or not isinstance(entries, list):
        raise InvalidRequest(
            "tool_choice.allowed_tools needs a mode (auto or required) and a list of tools, "
            f"such as {_EXAMPLE}",
            param="tool_choice",
        )
    tools = request.get("tools") or []
    kept = [tool for tool in tools if any(_matches(entry, tool) for entry in entries)]
    for entry in entries:
        if not any(_matches(entry, tool) for tool in kept):
            raise InvalidRequest(
                f"tool_choice allows {_show(entry)}, which is not among the request's tools: "
                f"{', '.join(filter(None, map(function_name, tools))) or 'none'}",
                param="tool_choice",
            )
    if not kept and mode == "required":
        raise InvalidRequest(
            "tool_choice requires a call but allows no tool: add one to allowed_tools.tools",
            param="tool_choice",
        )
    if kept:
        request["tools"], request["tool_choice"] = kept, mode
    else:
        withhold_tools(request)
    return True


def _matches(entry: Any, tool: Any) -> bool:
    name = _entry_name(entry)
    return entry == tool if name is None else name == function_name(tool)


def _entry_name(entry: Any) -> str | None:
    """Returns the name in `{"type": "function", "name": ...}`, with or without the inner object."""
    if isinstance(entry, dict) and entry.get("type") == "function" and isinstance(entry.get("name"), str):
        return str(entry["name"])
    return function_name(entry)


def _show(entry: Any) -> str:
    return repr(_entry_name(entry) or entry)[:80]
