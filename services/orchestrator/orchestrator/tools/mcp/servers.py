"""All configured MCP servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ...mcp_settings import McpServerSettings
from ...memory import Budget
from ...telemetry import Telemetry
from .state import ServerState, ServerStates

if TYPE_CHECKING:
    from .server import McpServer, OnTools
    from .session import Transport

_START_SECONDS = 5.0
"""How long the service waits for its servers to list their tools before it accepts requests without them."""


class McpServers:
    """The servers that the operator configured, kept connected in the background.

    Args:
        seconds: time limit of a call for servers without one of their own.
        takes_images: whether the model accepts images.
    """

    def __init__(
        self,
        configured: Iterable[McpServerSettings],
        *,
        seconds: float,
        takes_images: bool,
        budget: Budget,
        telemetry: Telemetry,
        on_tools: OnTools,
    ) -> None:
        self._servers: list[McpServer] = []
        for one in configured:
            from .server import McpServer  # saves 2 MB in a deployment without MCP servers

            self._servers.append(
                McpServer(
                    one.name,
                    transport_of(one, budget),
                    allowed=None if one.tools is None else frozenset(one.tools),
                    seconds=one.timeout_seconds or seconds,
                    takes_images=takes_images,
                    on_tools=on_tools,
                    on_call=telemetry.mcp_called,
                )
            )
        telemetry.register(ServerStates(lambda: self.states))

    @property
    def states(self) -> Sequence[ServerState]:
        return [server.state for server in self._servers]

    async def start(self) -> None:
        """Connects to all servers, and waits for a moment so that the first requests have their tools."""
        for server in self._servers:
            server.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                await asyncio.gather(*[server.first_attempt() for server in self._servers])

    async def close(self) -> None:
        await asyncio.gather(*[server.close() for server in self._servers])


def transport_of(server: McpServerSettings, budget: Budget) -> Transport:
    if server.url is not None:
        from .http import HttpTransport

        return HttpTransport(server.url, server.plain_headers, budget=budget)
    from .stdio import StdioTransport

    assert server.command is not None
    return StdioTransport(server.name, server.command, server.plain_environment)
