"""The tools of the MCP servers that a request brings, for the APIs in which it may."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from ..errors import InvalidRequest, NotPermitted
from ..protocol import JsonObject, dumps
from ..tools.mcp.requested import RequestServers
from ..tools.remote import RemoteTool
from ..tools.toolbox import Toolbox
from .request import Request

_MOST_SERVERS = 4
_MOST_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class Entry:
    """A server that a request brings.

    Attributes:
        where: its place in the request, for errors.
        tool: the server in the form of a tool of the Responses API.
    """

    where: str
    tool: JsonObject


@contextlib.asynccontextmanager
async def with_brought(
    toolbox: Toolbox, entries: Sequence[Entry], servers: RequestServers, request: Request
) -> AsyncIterator[Toolbox]:
    """Connects to the servers that a request brings, and yields the tools with theirs.

    Raises:
        InvalidRequest: a server is not allowed, or there are too many of them or of their tools.
        NotPermitted: the key may use only some tools. A client chooses the names of these.
        ServerUnavailable: a server cannot be used.
    """
    if not entries:
        yield toolbox
        return
    if request.record.permitted_tools is not None:
        raise NotPermitted(
            f"{entries[0].where}: this key permits certain tools of the server, and no MCP servers that a "
            "request brings",
            param=entries[0].where,
            code="tool_not_permitted",
        )
    _check_number(entries)
    found: list[RemoteTool] = []
    async with contextlib.AsyncExitStack() as stack:
        for entry in entries:
            server = await stack.enter_async_context(servers.open(entry.tool, entry.where))
            found += server.tools
            size = sum(len(dumps(tool.spec())) for tool in server.tools)
            if size > _MOST_BYTES:
                raise InvalidRequest(
                    f"{entry.where}: the MCP server {server.label} describes its tools in {size:,} bytes of "
                    f"JSON, of which at most {_MOST_BYTES:,} are accepted",
                    param=entry.where,
                )
            request.share.resize(request.share.size + 4 * size)
        yield toolbox.extended(found)


def _check_number(entries: Sequence[Entry]) -> None:
    if len(entries) > _MOST_SERVERS:
        raise InvalidRequest(
            f"A request may bring at most {_MOST_SERVERS} MCP servers; it brings {len(entries)}",
            param=entries[_MOST_SERVERS].where,
        )
    labels: set[str] = set()
    for entry in entries:
        label = str(entry.tool.get("server_label"))
        if label in labels:
            raise InvalidRequest(
                f"{entry.where} is the second MCP server with the label {label[:80]!r}; labels must differ",
                param=entry.where,
            )
        labels.add(label)
