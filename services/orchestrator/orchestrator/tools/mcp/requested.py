"""MCP servers that a request brings: only those on the operator's list, and never one in a private network.

Use it as `async with servers.open(tool, "tools[0]") as server`, and run the request with
`toolbox.extended(server.tools)`. Whether a tool may be called, and who has to approve it, is the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ...errors import CallerError, InvalidRequest
from ...mcp_settings import allowed_url, check_headers, endpoint
from ...memory import Budget
from ...telemetry import Telemetry
from ..remote import JsonObject, RemoteTool
from .wire import McpError

_LABEL = re.compile(r"[a-zA-Z0-9]+(?:[_-][a-zA-Z0-9]+)*")
_LABEL_CHARACTERS = 32
_RESOLVE_SECONDS = 3.0
_HEADERS = 32
_HEADER_CHARACTERS = 8192
_METRIC_LABEL = "(of a request)"  # a client chooses the names
_EMBEDDING = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
"""IPv6 networks whose addresses contain IPv4 addresses: NAT64, 6to4 and Teredo."""


class ServerUnavailable(CallerError):
    """The server that the request brings does not answer as an MCP server."""

    status = 424
    code = "mcp_server_unavailable"


@dataclass(frozen=True, slots=True)
class RequestServer:
    """A server of one request, and all of its tools."""

    label: str
    tools: Sequence[RemoteTool]


class RequestServers:
    """Connects to servers that requests bring.

    Args:
        allowed: the operator's list, `MCP_REQUEST_SERVERS`. Empty: requests may not bring servers.
        seconds: time limit of a call, which each progress notification starts again.
    """

    def __init__(
        self,
        allowed: Sequence[str],
        *,
        seconds: float,
        takes_images: bool,
        budget: Budget,
        telemetry: Telemetry,
    ) -> None:
        self._allowed = [allowed_url(url) for url in allowed]
        self._seconds = seconds
        self._takes_images = takes_images
        self._budget = budget
        self._telemetry = telemetry

    @contextlib.asynccontextmanager
    async def open(self, tool: JsonObject, where: str) -> AsyncIterator[RequestServer]:
        """Connects to the server of a tool such as `{"type": "mcp", "server_label": ..., "server_url": ...}`.

        Its `headers` and `authorization` are sent to the server.

        Args:
            where: the tool's place in the request, for errors.

        Raises:
            InvalidRequest: a field is invalid, or the server is not allowed.
            ServerUnavailable: the server cannot be used.
        """
        from .http import HttpTransport  # as in servers.py, only where they are used
        from .server import McpServer

        label, url = self._label(tool, where), self._url(tool, where)
        headers = _headers(tool, where)
        address = await self._address(url, f"{where}.server_url")
        found: list[RemoteTool] = []

        def take(_: str, tools: Sequence[RemoteTool]) -> None:
            found[:] = tools

        server = McpServer(
            label,
            HttpTransport(url, headers, budget=self._budget, address=address),
            allowed=None,
            seconds=self._seconds,
            takes_images=self._takes_images,
            follows_changes=False,
            on_tools=take,
            on_call=lambda _, outcome, seconds: self._telemetry.mcp_called(_METRIC_LABEL, outcome, seconds),
        )
        try:
            try:
                await server.refresh()
            except McpError as error:
                raise ServerUnavailable(
                    f"The MCP server {label} cannot be used: {error}", param=f"{where}.server_url"
                ) from None
            yield RequestServer(label, tuple(found))
        finally:
            await server.close()

    def _label(self, tool: JsonObject, where: str) -> str:
        label = tool.get("server_label")
        if not isinstance(label, str) or len(label) > _LABEL_CHARACTERS or not _LABEL.fullmatch(label):
            raise InvalidRequest(
                f"{where}.server_label must have 1 to {_LABEL_CHARACTERS} letters and digits, with single "
                "`-` and `_` between them",
                param=f"{where}.server_label",
            )
        return label

    def _url(self, tool: JsonObject, where: str) -> str:
        url, param = tool.get("server_url"), f"{where}.server_url"
        if not isinstance(url, str):
            raise InvalidRequest(f"{param} must be a URL such as https://mcp.example.com/mcp", param=param)
        try:
            endpoint(url)
        except ValueError as error:
            raise InvalidRequest(f"{param} {error}", param=param) from None
        if not self._allowed:
            raise InvalidRequest(
                f"{param}: this server does not connect to MCP servers that a request brings; its operator "
                "can allow them with MCP_REQUEST_SERVERS",
                param=param,
                code="mcp_server_not_allowed",
            )
        if not self._is_allowed(url):
            raise InvalidRequest(
                f"{param} {url[:200]!r} is not among the MCP servers that this server's operator allows",
                param=param,
                code="mcp_server_not_allowed",
            )
        return url

    def _is_allowed(self, url: str) -> bool:
        parts = urlsplit(url)
        path = parts.path or "/"
        if "\\" in path or "%" in path or any(step in (".", "..") for step in path.split("/")):
            return False  # a server may read it in another way than the list
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return any(
            (parts.scheme, port) == (scheme, its_port)
            and _host_matches(parts.hostname or "", host)
            and (path == start or path.startswith(start.rstrip("/") + "/"))
            for scheme, host, its_port, start in self._allowed
        )

    async def _address(self, url: str, param: str) -> str:
        """Returns an address of the server. Only this one is connected to, whatever its name means later."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError):
            raise ServerUnavailable(
                f"The name of the MCP server, {host[:200]!r}, cannot be resolved", param=param
            ) from None
        addresses = [str(one[4][0]) for one in found]
        # An operator who lists an address, or this machine, means it.
        named = any(host == its_host and _is_literal(its_host) for _, its_host, _, _ in self._allowed)
        if not named and not all(is_public(address) for address in addresses):
            raise InvalidRequest(
                f"{param} {url[:200]!r} leads to an address that is not public",
                param=param,
                code="mcp_server_not_allowed",
            )
        return addresses[0]


def is_public(address: str) -> bool:
    """Returns whether an address belongs to the internet: no private, local, metadata or embedded one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if any(ip in network for network in _EMBEDDING):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _is_literal(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _host_matches(host: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern


def _headers(tool: JsonObject, where: str) -> dict[str, str]:
    """Returns the header lines that a client sends to its server."""
    param = f"{where}.headers"
    given: Any = tool.get("headers") or {}
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise InvalidRequest(f"{param} must be an object of texts", param=param)
    headers: dict[str, str] = dict(given)
    token = tool.get("authorization")
    if token is not None:
        if not isinstance(token, str):
            raise InvalidRequest(f"{where}.authorization must be a text", param=f"{where}.authorization")
        headers["Authorization"] = f"Bearer {token}"
    if len(headers) > _HEADERS or sum(map(len, headers.values())) > _HEADER_CHARACTERS:
        raise InvalidRequest(
            f"{param} may have {_HEADERS} lines with {_HEADER_CHARACTERS:,} characters", param=param
        )
    try:
        check_headers(headers)
    except ValueError as error:
        raise InvalidRequest(f"{param}: {error}", param=param) from None
    return headers
