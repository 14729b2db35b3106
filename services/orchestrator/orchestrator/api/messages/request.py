"""Checks a request for a message, and turns it into one for a chat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import InvalidRequest
from ...protocol import NAME_AT_MOST, JsonObject
from ...tools.toolbox import Toolbox
from .content import messages_of

_OWN = frozenset(
    [
        "betas", "container", "context_management", "inference_geo", "mcp_servers", "messages", "metadata",
        "output_config", "output_format", "service_tier", "stop_sequences", "system", "thinking",
        "tool_choice", "tools",
    ]
)  # fmt: skip
"""Fields that the chat route does not have, or in another form. All others are passed on."""

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def chat_request(payload: JsonObject) -> JsonObject:
    """Returns the same request for the chat route.

    Raises:
        InvalidRequest: a field is invalid, or asks for what this server does not have.
    """
    limit = payload.get("max_tokens")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidRequest("max_tokens must be a number of at least 1", param="max_tokens")
    if payload.get("mcp_servers"):
        raise InvalidRequest(
            "mcp_servers is not supported here: name the tools of the MCP servers that the operator has "
            "configured, which GET /v1/tools lists, or bring a server to POST /v1/responses",
            param="mcp_servers",
        )
    chat = {name: value for name, value in payload.items() if name not in _OWN}
    chat["messages"] = messages_of(payload.get("messages"), payload.get("system"))
    if payload.get("stop_sequences") is not None:
        chat["stop"] = payload["stop_sequences"]
    if tools := _tools(payload.get("tools")):
        chat["tools"] = tools
    if (choice := payload.get("tool_choice")) is not None:
        _apply_choice(choice, chat)
    _apply_thinking(payload, chat)
    return chat


def names_server_tool(payload: JsonObject, toolbox: Toolbox) -> bool:
    """Returns whether the request has a tool with the name of one of the server's."""
    tools = payload.get("tools")
    return isinstance(tools, list) and any(tool_name(tool) in toolbox for tool in tools)


def custom_tools(payload: JsonObject) -> Iterator[tuple[str, bool]]:
    """Returns the names of the tools that are not Anthropic's own, and whether they have a schema."""
    tools = payload.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if (name := tool_name(tool)) is not None:
            yield name, tool.get("input_schema") is not None


def tool_name(tool: Any) -> str | None:
    """Returns the name of a tool that is described by its schema; others are Anthropic's own."""
    if not isinstance(tool, dict) or tool.get("type") not in (None, "custom"):
        return None
    name = tool.get("name")
    return name if isinstance(name, str) else None


def _tools(tools: Any) -> list[JsonObject]:
    """Returns the tools in the format of the chat route."""
    if tools is not None and not isinstance(tools, list):
        raise InvalidRequest("tools must be a list of tools", param="tools")
    functions = []
    for index, tool in enumerate(tools or ()):
        where = f"tools[{index}]"
        name = tool_name(tool)
        if name is None:
            kind = str(tool.get("type"))[:80] if isinstance(tool, dict) else "another value"
            raise InvalidRequest(
                f"{where} must be a tool with a name; it is of type {kind!r}, which does not work together "
                "with tools that this server runs. Remove it, or send X-Tool-Execution: client.",
                param=where,
            )
        if not 0 < len(name) <= NAME_AT_MOST:
            raise InvalidRequest(
                f"{where}.name must have 1 to {NAME_AT_MOST} characters", param=f"{where}.name"
            )
        function = {"name": name}
        for field, ours in (
            ("description", "description"),
            ("input_schema", "parameters"),
            ("strict", "strict"),
        ):
            if tool.get(field) is not None:
                function[ours] = tool[field]
        functions.append({"type": "function", "function": function})
    return functions


def _apply_choice(choice: Any, chat: JsonObject) -> None:
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "tool" and isinstance(choice.get("name"), str):
        chat["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    elif kind in _CHOICES:
        chat["tool_choice"] = _CHOICES[kind]
    else:
        raise InvalidRequest(
            "tool_choice must be an object of type auto, any, none, or tool with a name", param="tool_choice"
        )
    if "disable_parallel_tool_use" in choice:
        chat["parallel_tool_calls"] = not choice["disable_parallel_tool_use"]


def _apply_thinking(payload: JsonObject, chat: JsonObject) -> None:
    """Adds the settings of thinking and of the output, as the engine's own route does."""
    config = payload.get("output_config") or {}
    thinking = payload.get("thinking") or {}
    for name, value in (("output_config", config), ("thinking", thinking)):
        if not isinstance(value, dict):
            raise InvalidRequest(f"{name} must be an object", param=name)
    if config.get("effort") is not None:
        chat["reasoning_effort"] = config["effort"]
    if thinking.get("type") == "disabled":
        chat["reasoning_effort"] = "none"
    elif thinking.get("budget_tokens") is not None:
        chat["thinking_token_budget"] = thinking["budget_tokens"]
    given = config.get("format") or payload.get("output_format")
    if isinstance(given, dict) and given.get("type") == "json_schema":
        schema = {"name": "json_schema", "schema": given.get("schema")}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
