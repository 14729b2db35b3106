"""Tools of type `mcp`: those of this server, of a configured one, or of one that the request brings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import CallerError, InvalidRequest
from ...protocol import JsonObject
from ...tools.mcp.requested import ServerUnavailable
from ...tools.toolbox import Toolbox
from ..brought import Entry

OWN_LABEL = "tandem"
"""The label of this server's own tools."""

_ECHOED = ("type", "server_label", "server_description", "server_url", "allowed_tools", "require_approval")

Label = tuple[str, str]
"""The label of a tool's server, and the tool's name there."""


@dataclass(slots=True)
class McpTools:
    """The tools that a request names by their servers.

    Attributes:
        tools: in the format of the chat route.
        labels: by the name in chat. Tools of other servers have one however they are named.
        approval: the names in chat of those that the client wants to approve.
        listings: items that list the tools of each server.
    """

    labels: dict[str, Label]
    tools: list[JsonObject] = field(default_factory=list)
    approval: set[str] = field(default_factory=set)
    listings: list[JsonObject] = field(default_factory=list)

    def name_of(self, label: Any, name: Any) -> str | None:
        """Returns the name in chat of a tool of the server with this label."""
        found = (ours for ours, theirs in self.labels.items() if theirs == (label, name))
        return next(found, None)


def labels_of(toolbox: Toolbox) -> dict[str, Label]:
    """Returns the labels of all tools by their name in chat."""
    remote = {name: toolbox.remote(name) for name in toolbox.names}
    return {
        name: (tool.server, tool.remote_name) if tool else (OWN_LABEL, name) for name, tool in remote.items()
    }


def names_server(tools: Any, toolbox: Toolbox) -> bool:
    """Returns whether a request's tools include a server that is known here, or that the request brings."""
    return any(_is_known(tool, toolbox) or _is_brought(tool) for _, tool in _entries(tools))


def brought_servers(tools: Any, toolbox: Toolbox) -> list[Entry]:
    """Returns the servers that a request brings. A name that is known here means the server of that name."""
    return [
        Entry(where, tool)
        for where, tool in _entries(tools)
        if _is_brought(tool) and not _is_known(tool, toolbox)
    ]


def read_tools(tools: list[Any], toolbox: Toolbox, brought: Collection[str] = ()) -> McpTools:
    """Returns the tools of the entries of type `mcp`.

    Args:
        brought: the labels of the servers that the request brings.

    Raises:
        InvalidRequest: an entry is malformed, or names a server or a tool that is not known here.
        ServerUnavailable: a server that is known here is down.
    """
    known = labels_of(toolbox)
    found = McpTools({name: label for name, label in known.items() if label[0] != OWN_LABEL})
    for where, entry in _entries(tools):
        # OpenAI's default. The operator has approved the servers that are known here.
        default = "always" if entry.get("server_label") in brought else "never"
        _read(entry, where, known, found, toolbox, default=default)
    return found


def _entries(tools: Any) -> Iterator[tuple[str, JsonObject]]:
    """Yields the tools of type `mcp` with their places in the request."""
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, dict) and tool.get("type") == "mcp":
            yield f"tools[{index}]", tool


def _is_known(tool: JsonObject, toolbox: Toolbox) -> bool:
    label = tool.get("server_label")
    return isinstance(label, str) and (label == OWN_LABEL or label in toolbox.servers)


def _is_brought(tool: JsonObject) -> bool:
    return tool.get("server_url") is not None


def _read(
    entry: JsonObject,
    where: str,
    known: Mapping[str, Label],
    found: McpTools,
    toolbox: Toolbox,
    *,
    default: str,
) -> None:
    label = entry.get("server_label")
    theirs = {name: ours for ours, (server, name) in known.items() if server == label}
    if not theirs:
        raise _without_tools(label, f"{where}.server_label", known, toolbox)
    names = _allowed(entry.get("allowed_tools"), theirs, f"{where}.allowed_tools")
    approval = entry.get("require_approval")
    approved = _filter(default if approval is None else approval, theirs, f"{where}.require_approval")
    listed = []
    for name in names:
        ours = theirs[name]
        spec = toolbox.complete({"type": "function", "function": {"name": ours}})
        found.tools.append(spec)
        found.labels[ours] = (str(label), name)
        if name in approved:
            found.approval.add(ours)
        function = spec["function"]
        shown = {
            "name": name,
            "description": function["description"],
        }  # without nulls, which some SDKs reject
        listed.append({**shown, "input_schema": function["parameters"]})
    found.listings.append({"type": "mcp_list_tools", "server_label": label, "tools": listed})


def _without_tools(label: Any, param: str, known: Mapping[str, Label], toolbox: Toolbox) -> CallerError:
    if isinstance(label, str) and label in toolbox.servers:
        return ServerUnavailable(
            f"The MCP server {label} offers no tools now; GET /ready says why", param=param
        )
    labels = ", ".join(sorted({server for server, _ in known.values()}))
    return InvalidRequest(
        f"{param} {str(label)[:80]!r} is not a server that is known here; known: {labels}", param=param
    )


def echo(entry: JsonObject) -> JsonObject:
    """Returns an entry as the response repeats it: without headers, which may have secrets."""
    return {name: entry[name] for name in _ECHOED if name in entry}


def _allowed(given: Any, theirs: Mapping[str, str], where: str) -> list[str]:
    if isinstance(given, dict):
        given = given.get("tool_names")
    if given is None:
        return sorted(theirs)
    names = _names(given, theirs, where)
    return [name for name in sorted(theirs) if name in names]


def _filter(given: Any, theirs: Mapping[str, str], where: str) -> list[str]:
    """Returns the tools whose calls the client wants to approve."""
    if given == "never":
        return []
    if given == "always":
        return list(theirs)
    if not isinstance(given, dict):
        raise InvalidRequest(f"{where} must be always, never, or an object of tool names", param=where)
    always, never = given.get("always"), given.get("never")
    if isinstance(always, dict):
        return _names(always.get("tool_names") or [], theirs, f"{where}.always.tool_names")
    if isinstance(never, dict):
        trusted = _names(never.get("tool_names") or [], theirs, f"{where}.never.tool_names")
        return [name for name in theirs if name not in trusted]
    return []


def _names(given: Any, theirs: Mapping[str, str], where: str) -> list[str]:
    if not isinstance(given, list):
        raise InvalidRequest(f"{where} must be a list of tool names", param=where)
    for name in given:
        if not isinstance(name, str) or name not in theirs:
            raise InvalidRequest(
                f"{where} names {str(name)[:80]!r}, which the server does not have; it has "
                f"{', '.join(sorted(theirs))[:400]}",
                param=where,
            )
    return given
