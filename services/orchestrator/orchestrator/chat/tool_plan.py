"""Decides where the tools of a request run: on the server, on the client, or nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import InvalidRequest
from ..protocol import JsonObject
from ..tools.toolbox import Toolbox


@dataclass(slots=True)
class ToolPlan:
    """A checked request, prepared for the engine.

    Attributes:
        request: the client's request without `tandem` and with complete definitions of server tools.
        server, client: the names of the tools that each side runs.
        events: whether the client requested an event for each tool call.
        changed: whether `request` differs from what the client sent.
        stream: whether the answer is streamed.
    """

    request: JsonObject
    server: frozenset[str] = frozenset()
    client: frozenset[str] = frozenset()
    events: bool = False
    changed: bool = False
    stream: bool = field(init=False)

    def __post_init__(self) -> None:
        self.stream = bool(self.request.get("stream"))

    def parameters(self, name: str) -> JsonObject:
        """Returns the schema of a tool's arguments, which is empty if there is none."""
        for tool in self.request.get("tools") or ():
            function = tool.get("function")
            if isinstance(function, dict) and function.get("name") == name:
                schema = function.get("parameters")
                return schema if isinstance(schema, dict) else {}
        return {}

    @property
    def runs_tools(self) -> bool:
        return bool(self.server)


def plan_tools(
    request: JsonObject, toolbox: Toolbox, *, execution: str | None, attached: Sequence[str]
) -> ToolPlan:
    """Plans a request that `check_chat_request` accepted.

    Args:
        execution: the header `X-Tool-Execution`; `client` leaves every tool to the client.
        attached: server tools for requests that have no tools.

    Raises:
        InvalidRequest: the header or the `tandem` field is invalid, or `n` is above 1 with server tools.
    """
    if execution not in (None, "client", "server"):
        raise InvalidRequest(
            f"The header X-Tool-Execution must be client or server, not {execution[:40]!r}",
            param="x-tool-execution",
        )
    changed = "tandem" in request
    events = _wants_events(request.pop("tandem", None))
    if execution == "client":
        return ToolPlan(request, changed=changed)
    tools = request.get("tools")
    if tools is None and attached:
        tools = [{"type": "function", "function": {"name": name}} for name in attached]
    if not tools:
        return ToolPlan(request, changed=changed)
    names = {tool["function"]["name"] for tool in tools if tool.get("type", "function") == "function"}
    server = frozenset(names & toolbox.names)
    if not server:
        return ToolPlan(request, changed=changed)
    request["tools"] = [
        toolbox.complete(tool) if tool.get("function", {}).get("name") in server else tool for tool in tools
    ]
    if request.get("tool_choice") == "none":
        return ToolPlan(request, changed=True)
    if request.get("n") not in (None, 1):
        raise InvalidRequest(
            f"n must be 1 if the server runs tools ({', '.join(sorted(server))}); it is {request['n']}. "
            "Send X-Tool-Execution: client to run them yourself.",
            param="n",
        )
    return ToolPlan(request, server, frozenset(names) - server, events, True)


def _wants_events(field: object) -> bool:
    if field is None:
        return False
    if not isinstance(field, dict) or not set(field) <= {"events"}:
        raise InvalidRequest('tandem must be an object such as {"events": true}', param="tandem")
    events = field.get("events", False)
    if not isinstance(events, bool):
        raise InvalidRequest("tandem.events must be true or false", param="tandem.events")
    return events
