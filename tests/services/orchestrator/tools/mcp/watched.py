"""A connected MCP server, the toolbox that it fills, and what was counted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from orchestrator.memory import Budget
from orchestrator.tools.mcp.http import HttpTransport
from orchestrator.tools.mcp.server import McpServer
from orchestrator.tools.remote import RemoteTool
from orchestrator.tools.toolbox import Toolbox
from tests.support.scripted_mcp import ScriptedMcp


class Watched:
    """A connected server, the toolbox that it fills, and what was counted."""

    def __init__(self, peer: ScriptedMcp, budget: Budget | None = None, **options: Any) -> None:
        self.toolbox = Toolbox([])
        self.lists: list[Sequence[RemoteTool]] = []
        self.calls: list[tuple[str, str]] = []
        fields = {"allowed": None, "seconds": 5.0, "takes_images": False, **options}
        headers = fields.pop("headers", {})
        self.server = McpServer(
            "files",
            HttpTransport(peer.url, headers, budget=budget or Budget(100_000_000)),
            on_tools=self._take,
            on_call=lambda name, outcome, _: self.calls.append((name, outcome)),
            **fields,
        )

    def _take(self, name: str, tools: Sequence[RemoteTool]) -> None:
        self.lists.append(tools)
        self.toolbox.set_remote(name, tools)

    @property
    def names(self) -> set[str]:
        return set(self.toolbox.names)


@contextlib.asynccontextmanager
async def watched(peer: ScriptedMcp, **options: Any) -> AsyncIterator[Watched]:
    one = Watched(peer, **options)
    one.server.start()
    try:
        async with asyncio.timeout(10):
            await one.server.first_attempt()
        yield one
    finally:
        await one.server.close()
        await one.toolbox.aclose()
