"""Tools of type `mcp`: the tools of a server that the operator has configured, or of this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidRequest
from ...protocol import JsonObject
from ...tools.toolbox import Toolbox

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


def names_known_server(tools: Any, toolbox: Toolbox) -> bool:
    """Returns whether a request's tools include a server that is known here."""
    labels = [
        tool.get("server_label")
        for tool in (tools if isinstance(tools, list) else ())
        if isinstance(tool, dict) and tool.get("type") == "mcp"
    ]
    return bool(labels) and any(label in labels for label, _ in labels_of(toolbox).values())


def read_tools(tools: list[Any], toolbox: Toolbox) -> McpTools:
    """Returns the tools of the entries of type `mcp`.

    Raises:
        InvalidRequest: an entry is malformed, or names a server or a tool that is not known here.
    """
    known = labels_of(toolbox)
    found = McpTools({name: label for name, label in known.items() if label[0] != OWN_LABEL})
    for index, entry in enumerate(tools):
        if isinstance(entry, dict) and entry.get("type") == "mcp":
            _read(entry, f"tools[{index}]", known, found, toolbox)
    return found


def _read(
    entry: JsonObject, where: str, known: Mapping[str, Label], found: McpTools, toolbox: Toolbox
) -> None:
    label = entry.get("server_label")
    theirs = {name: ours for ours, (server, name) in known.items() if server == label}
    if not theirs:
        labels = ", ".join(sorted({server for server, _ in known.values()}))
        raise InvalidRequest(
            f"{where}.server_label {str(label)[:80]!r} is not a server that is known here; known: {labels}",
            param=f"{where}.server_label",
        )
    names = _allowed(entry.get("allowed_tools"), theirs, f"{where}.allowed_tools")
    approved = _filter(entry.get("require_approval"), theirs, f"{where}.require_approval")
    listed = []
    for name in names:
        ours = theirs[name]
        spec = toolbox.complete({"type": "function", "function": {"name": ours}})
        found.tools.append(spec)
        found.labels[ours] = (str(label), name)
        if name in approved:
            found.approval.add(ours)
        function = spec["function"]
        shown = {"name": name, "description": function["description"], "annotations": None}
        listed.append({**shown, "input_schema": function["parameters"]})
    found.listings.append({"type": "mcp_list_tools", "server_label": label, "tools": listed, "error": None})


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
    """Returns the tools whose calls the client wants to approve. The default is none: the operator did."""
    if given in (None, "never"):
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
