"""Checks the request for a response, and turns it into one for a chat."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidRequest
from ...protocol import JsonObject, ToolCall
from ...tools.toolbox import Toolbox
from .items import read_input
from .mcp import McpTools, echo, names_server, read_tools

_RENAMED = {"max_output_tokens": "max_completion_tokens"}
_OWN = frozenset(
    [
        "background", "conversation", "context_management", "include", "input", "instructions",
        "max_tool_calls", "metadata", "previous_response_id", "prompt", "reasoning", "store",
        "stream_options", "text", "tool_choice", "tools", "top_logprobs", "truncation",
    ]
)  # fmt: skip
"""Fields that the chat route does not have, or in another form. All others are passed on."""

_TYPES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "input": ((str, list), "a string or a list of items"),
    "include": (list, "a list of strings"),
    "instructions": (str, "a string"),
    "max_output_tokens": (int, "a number"),
    "max_tool_calls": (int, "a number"),
    "metadata": (dict, "an object of strings"),
    "model": (str, "a string"),
    "parallel_tool_calls": (bool, "true or false"),
    "reasoning": (dict, "an object"),
    "store": (bool, "true or false"),
    "stream": (bool, "true or false"),
    "text": (dict, "an object"),
    "tool_choice": ((str, dict), "a string or an object"),
    "tools": (list, "a list of tools"),
    "top_logprobs": (int, "a number"),
}
_LOGPROBS = "message.output_text.logprobs"
_FORMATS = ("text", "json_object", "json_schema")
_FUNCTION = ("name", "description", "parameters", "strict")


@dataclass(slots=True)
class ResponseRequest:
    """A checked request.

    Attributes:
        chat: the same request for the chat route.
        echo: the fields of the response that repeat the request.
        mcp: the tools that are named by their servers, whose listings the input does not have yet.
        approved: calls that the client has approved.
    """

    chat: JsonObject
    echo: JsonObject
    mcp: McpTools
    approved: list[ToolCall]
    stream: bool = False
    max_tool_calls: int | None = None


def parse(payload: JsonObject, toolbox: Toolbox, brought: Collection[str] = ()) -> ResponseRequest:
    """Returns the request in `payload`.

    Args:
        brought: the labels of the MCP servers that the request brings, whose tools the toolbox has.

    Raises:
        InvalidRequest: a field is invalid, or asks for what this server does not have.
    """
    _check_types(payload)
    _check_supported(payload)
    chat = {_RENAMED.get(name, name): value for name, value in payload.items() if name not in _OWN}
    given = payload.get("tools") or []
    mcp = read_tools(given, toolbox, brought)
    read = read_input(payload["input"], payload.get("instructions"), mcp.name_of)
    chat["messages"] = read.messages
    if not (read.messages or read.approved):
        raise InvalidRequest("input must have at least one item", param="input")
    if tools := _tools(given, toolbox, mcp):
        chat["tools"] = tools
    if (choice := payload.get("tool_choice")) is not None:
        chat["tool_choice"] = _choice(choice, mcp)
    mcp.listings = [item for item in mcp.listings if item["server_label"] not in read.listed]
    effort = (payload.get("reasoning") or {}).get("effort")
    if effort is not None:
        chat["reasoning_effort"] = effort
    _apply_text(payload.get("text") or {}, chat)
    if _LOGPROBS in (payload.get("include") or ()):
        chat["logprobs"] = True
        chat["top_logprobs"] = payload.get("top_logprobs") or 0
    shown = [echo(tool) for tool in given if tool.get("type") == "mcp"]
    own = [tool for tool in tools if tool not in mcp.tools]
    return ResponseRequest(
        chat,
        _echo(payload, [*[_flat(toolbox.complete(tool)) for tool in own], *shown]),
        mcp,
        read.approved,
        stream=payload.get("stream") is True,
        max_tool_calls=payload.get("max_tool_calls"),
    )


def names_server_tool(payload: JsonObject, toolbox: Toolbox) -> bool:
    """Returns whether the request names a tool of this server, or an MCP server to call."""
    tools = payload.get("tools")
    if not isinstance(tools, list):
        return False
    return any(_name(tool) in toolbox for tool in tools) or names_server(tools, toolbox)


def functions(payload: JsonObject) -> Iterator[tuple[str, bool]]:
    """Returns the names of the request's functions, and whether it describes their parameters."""
    tools = payload.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if (name := _name(tool)) is not None:
            yield name, tool.get("parameters") is not None


def _name(tool: Any) -> str | None:
    name = tool.get("name") if isinstance(tool, dict) and tool.get("type") == "function" else None
    return name if isinstance(name, str) else None


def _check_types(payload: JsonObject) -> None:
    if payload.get("input") is None:
        raise InvalidRequest("input must be a string or a list of items; it is missing", param="input")
    for name, (kind, wanted) in _TYPES.items():
        value = payload.get(name)
        wrong = not isinstance(value, kind) or (kind is int and isinstance(value, bool))
        if value is not None and wrong:
            raise InvalidRequest(f"{name} must be {wanted}", param=name)
    metadata = payload.get("metadata") or {}
    if not all(isinstance(value, str) for value in metadata.values()):
        raise InvalidRequest("metadata must be an object of strings", param="metadata")
    for name in ("max_tool_calls", "max_output_tokens"):
        if (value := payload.get(name)) is not None and value < 1:
            raise InvalidRequest(f"{name} must be at least 1; it is {value}", param=name)


def _check_supported(payload: JsonObject) -> None:
    reasons = {
        "background": "runs no response in the background; leave it out and stream the response instead",
        "conversation": "keeps no conversations; send the earlier items in `input`",
        "prompt": "stores no prompts; send the text in `instructions` or `input`",
    }
    for name, reason in reasons.items():
        if payload.get(name):
            raise InvalidRequest(
                f"{name} is not supported: this server {reason}", param=name, code="unsupported_parameter"
            )


def _tools(tools: list[Any], toolbox: Toolbox, mcp: McpTools) -> list[JsonObject]:
    """Returns the tools in the format of the chat route."""
    known = [name for tool in tools if (name := _name(tool)) in toolbox]
    functions = []
    named = {tool["function"]["name"] for tool in mcp.tools}
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind == "mcp" or _name(tool) in named:
            continue
        if kind != "function":
            raise _not_mixed(where, tool, kind, [name for name in known if name])
        if _name(tool) is None:
            raise InvalidRequest(f"{where}.name must be a string", param=f"{where}.name")
        function = {name: tool[name] for name in _FUNCTION if tool.get(name) is not None}
        functions.append({"type": "function", "function": function})
    return functions + mcp.tools


def _not_mixed(where: str, tool: Any, kind: Any, known: list[str]) -> InvalidRequest:
    label = (tool.get("name") or tool.get("server_label")) if isinstance(tool, dict) else None
    named = f" ({str(label)[:80]!r})" if label else ""
    mixed = f"together with tools that this server runs ({', '.join(known)})" if known else "here"
    return InvalidRequest(
        f"{where}{named} is of type {str(kind)[:80]!r}, which does not work {mixed}. Remove it, or send "
        "X-Tool-Execution: client, which leaves all tools to the client and the engine.",
        param=where,
    )


def _flat(tool: JsonObject) -> JsonObject:
    """Returns a function tool as responses show it."""
    function = tool["function"]
    return {
        "type": "function",
        "name": function["name"],
        "description": function.get("description"),
        "parameters": function.get("parameters"),
        "strict": function.get("strict"),
    }


def _choice(choice: str | JsonObject, mcp: McpTools) -> str | JsonObject:
    """Returns `tool_choice` in the format of the chat route."""
    if isinstance(choice, str):
        return choice
    if choice.get("type") == "function" and isinstance(choice.get("name"), str):
        return {"type": "function", "function": {"name": choice["name"]}}
    if choice.get("type") == "allowed_tools":
        return choice
    if choice.get("type") == "mcp":
        name = mcp.name_of(choice.get("server_label"), choice.get("name"))
        return {"type": "function", "function": {"name": name}} if name else "required"
    raise InvalidRequest(
        "tool_choice must be none, auto, required, or an object of type function, mcp or allowed_tools; "
        f"it is of type {str(choice.get('type'))[:80]!r}",
        param="tool_choice",
    )


def _apply_text(text: JsonObject, chat: JsonObject) -> None:
    """Adds the format and verbosity of the answer to a chat request."""
    if text.get("verbosity") is not None:
        chat["verbosity"] = text["verbosity"]
    given = text.get("format")
    if given is None:
        return
    if not isinstance(given, dict) or given.get("type") not in _FORMATS:
        wanted = ", ".join(_FORMATS)
        raise InvalidRequest(f"text.format.type must be one of {wanted}", param="text.format.type")
    if given["type"] == "json_schema":
        schema = {name: value for name, value in given.items() if name != "type"}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif given["type"] == "json_object":
        chat["response_format"] = {"type": "json_object"}


def _echo(payload: JsonObject, tools: list[JsonObject]) -> JsonObject:
    """Returns the fields of the response that repeat the request, with OpenAI's defaults."""
    text = payload.get("text") or {}
    reasoning = payload.get("reasoning") or {}
    return {
        "instructions": payload.get("instructions"),
        "max_output_tokens": payload.get("max_output_tokens"),
        "max_tool_calls": payload.get("max_tool_calls"),
        "metadata": payload.get("metadata") or {},
        "parallel_tool_calls": payload.get("parallel_tool_calls") is not False,
        "previous_response_id": payload.get("previous_response_id"),
        "prompt_cache_key": payload.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": payload.get("safety_identifier"),
        "service_tier": payload.get("service_tier") or "default",
        "store": payload.get("store") is True,
        "temperature": payload.get("temperature", 1.0),
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": payload.get("tool_choice") or "auto",
        "tools": tools,
        "top_logprobs": payload.get("top_logprobs") or 0,
        "top_p": payload.get("top_p", 1.0),
        "truncation": payload.get("truncation") or "disabled",
        "presence_penalty": payload.get("presence_penalty") or 0.0,
        "frequency_penalty": payload.get("frequency_penalty") or 0.0,
        "user": payload.get("user"),
        "background": False,
    }
