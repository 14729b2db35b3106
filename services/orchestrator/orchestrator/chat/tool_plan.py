"""Decides where the tools of a request run: on the server, on the client, or nowhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ..errors import InvalidRequest
from ..protocol import JsonObject, ToolCall
from ..tools.toolbox import Toolbox
from .carried import restore
from .execution import parse_execution, sides_of
from .tool_choice import apply_allowed_tools, drop_choice_without_tools, function_name, withhold_tools


@dataclass(slots=True)
class ToolPlan:
    """A checked request, prepared for the engine.

    Attributes:
        request: the client's request without `tandem` and with complete definitions of server tools.
        server, client: the names of the tools that each side runs.
        events: whether the client requested an event for each tool call.
        hints: what the client probably did not mean.
        changed: whether `request` differs from what the client sent.
        stream: whether the answer is streamed.
        has_format: whether the answer must have a format, which is demanded when no more tools are offered.
        shows_rounds: whether the client sees each round, its calls and their results, instead of one text.
        carries: whether the id of a client's call carries what the server ran, which clients may not repeat.
        max_calls: the maximum number of calls that the server runs; None for no limit but that of rounds.
        approved: calls to run before the engine is asked, since the client has approved them.
    """

    request: JsonObject
    server: frozenset[str] = frozenset()
    client: frozenset[str] = frozenset()
    events: bool = False
    changed: bool = False
    hints: Sequence[str] = ()
    stream: bool = field(init=False)
    has_format: bool = field(init=False)
    shows_rounds: bool = False
    carries: bool = True
    max_calls: int | None = None
    approved: list[ToolCall] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stream = bool(self.request.get("stream"))
        wanted = self.request.get("response_format")
        by_format = isinstance(wanted, dict) and wanted.get("type") != "text"
        self.has_format = by_format or self.request.get("structured_outputs") is not None

    def parameters(self, name: str) -> JsonObject:
        """Returns the schema of a tool's arguments, which is empty if there is none."""
        for tool in self.request.get("tools") or ():
            if function_name(tool) == name:
                schema = tool["function"].get("parameters")
                return schema if isinstance(schema, dict) else {}
        return {}

    @property
    def must_call_client(self) -> bool:
        """Whether the client depends on getting a call: with `required` and tools of its own."""
        return bool(self.client) and self.request.get("tool_choice") == "required"

    @property
    def runs_tools(self) -> bool:
        return bool(self.server)


def plan_tools(
    request: JsonObject,
    toolbox: Toolbox,
    *,
    execution: str | None,
    attached: Sequence[str],
    permitted: frozenset[str] | None = None,
) -> ToolPlan:
    """Plans a request that `check_chat_request` accepted.

    Args:
        execution: the header `X-Tool-Execution`; see `parse_execution`.
        attached: server tools for requests that have no tools, or `all`.
        permitted: the server tools that may be attached. None: all of them.

    Raises:
        InvalidRequest: the header or the `tandem` field is invalid, or `n` is above 1 with server tools.
    """
    demanded = parse_execution(execution)
    changed = _restore(request) or "tandem" in request
    events = _wants_events(request.pop("tandem", None))
    empty = request.get("tools") == []  # means no tools, but vLLM rejects it
    if empty:
        del request["tools"]
        changed = True
    attached = attached if not demanded.all_client else ()
    added = _names_to_attach(request, toolbox.names, attached, permitted)
    if added:
        request["tools"] = [{"type": "function", "function": {"name": name}} for name in added]
    elif empty:
        drop_choice_without_tools(request)
    changed = apply_allowed_tools(request) or changed
    tools = request.get("tools")
    if demanded.all_client or not tools:
        return ToolPlan(request, changed=changed)
    if request.get("tool_choice") == "none":
        withhold_tools(request)
        return ToolPlan(request, changed=True)
    server, client, hints = sides_of(tools, toolbox, demanded)
    if not server:
        return ToolPlan(request, changed=changed, hints=hints)
    request["tools"] = [toolbox.complete(tool) if function_name(tool) in server else tool for tool in tools]
    if request.get("n") not in (None, 1):
        raise InvalidRequest(
            f"n must be 1 if the server runs tools ({', '.join(sorted(server))}); it is {request['n']}. "
            "Send X-Tool-Execution: client to run them yourself.",
            param="n",
        )
    return ToolPlan(request, server, client, events, True, hints)


def _restore(request: JsonObject) -> bool:
    """Puts the calls that the history carries back into it. Returns whether there are any."""
    restored = restore(request["messages"])
    if restored is None:
        return False
    request["messages"] = restored
    return True


def _names_to_attach(
    request: JsonObject, known: Collection[str], attached: Sequence[str], permitted: frozenset[str] | None
) -> Sequence[str]:
    """Returns the tools to add: none if no call is allowed, or if several answers are requested."""
    if not attached or request.get("tools") is not None or request.get("tool_choice") == "none":
        return ()
    if request.get("n") not in (None, 1):
        return ()
    names = sorted(known) if tuple(attached) == ("all",) else attached
    # An MCP server may be down.
    return [name for name in names if name in known and (permitted is None or name in permitted)]


def _wants_events(field: object) -> bool:
    if field is None:
        return False
    if not isinstance(field, dict) or not set(field) <= {"events"}:
        raise InvalidRequest('tandem must be an object such as {"events": true}', param="tandem")
    events = field.get("events", False)
    if not isinstance(events, bool):
        raise InvalidRequest("tandem.events must be true or false", param="tandem.events")
    return events
