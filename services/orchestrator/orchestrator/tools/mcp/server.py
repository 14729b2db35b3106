"""One configured MCP server: kept connected in the background, with its health and its tools."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from ...errors import ToolError
from ..context import ToolContext
from ..remote import RemoteTool
from ..running import CallTimeout
from .definitions import define
from .session import Session, Transport
from .state import ServerState
from .wire import INVALID_PARAMS, METHOD_NOT_FOUND, JsonObject, McpError, Rejected, Unreachable

OnTools = Callable[[str, Sequence[RemoteTool]], None]
OnCall = Callable[[str, str, float], None]

log = logging.getLogger("orchestrator.mcp")

REFRESH_SECONDS = 300.0
_REFRESH_AT_LEAST = 1.0
_REFRESH_AT_MOST = 86_400.0
_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 0.5, 30.0
_CHANGES_AT_MOST_EVERY = 0.5


class McpServer:
    """A server whose tools are listed in the background, never by a request.

    Args:
        allowed: the names of the tools to use. Default: all.
        seconds: time limit of a call, which each progress notification starts again.
        follows_changes: whether the server may report that its list of tools has changed.
        on_tools: takes the server's tools whenever they change; none while the server is down.
        on_call: counts a call by the server's name, the outcome and the duration.
    """

    def __init__(
        self,
        name: str,
        transport: Transport,
        *,
        allowed: frozenset[str] | None,
        seconds: float,
        takes_images: bool,
        follows_changes: bool = True,
        on_tools: OnTools,
        on_call: OnCall,
    ) -> None:
        self.name = name
        self._allowed = allowed
        self._seconds = seconds
        self._takes_images = takes_images
        self._on_tools = on_tools
        self._on_call = on_call
        self._changed = asyncio.Event()
        self._session = Session(transport, self._changed.set if follows_changes else None)
        self._task: asyncio.Task[None] | None = None
        self._listed = asyncio.Event()
        self._reason = "it has not answered yet"
        self._tools: list[RemoteTool] = []
        self._left_out: tuple[str, ...] = ()

    @property
    def state(self) -> ServerState:
        up = not self._reason
        return ServerState(
            self.name, up, len(self._tools), self._session.version, self._reason, self._left_out
        )

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._maintain())

    async def first_attempt(self) -> None:
        """Waits until the server has answered, or could not be used."""
        await self._listed.wait()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._session.close()

    async def refresh(self) -> float | None:
        """Lists the tools and passes them on. Returns for how many seconds they hold, if the server says.

        Raises:
            McpError: the server cannot be used.
        """
        found, seconds = await self._session.list_tools()
        tools, problems = define(
            self.name, found, allowed=self._allowed, run=self._call, takes_images=self._takes_images
        )
        for problem in problems:
            if problem not in self._left_out:
                log.warning("a tool of the MCP server %s is left out: %s", self.name, problem)
        self._left_out = tuple(problems)
        if self._reason and self._task is not None:
            fields = {"server": self.name, "version": self._session.version, "tools": len(tools)}
            log.info("an MCP server is up", extra={"fields": fields})
        self._reason = ""
        self._tools = tools
        self._on_tools(self.name, tools)
        return seconds

    async def _maintain(self) -> None:
        retry = _FIRST_RETRY_SECONDS
        while True:
            self._changed.clear()
            try:
                wait = await self.refresh()
            except McpError as error:
                self._went_down(str(error))
                wait, retry = retry, min(2 * retry, _LAST_RETRY_SECONDS)
            except Exception as error:
                log.exception("the MCP server %s could not be read", self.name)
                self._went_down(f"unexpected error: {type(error).__name__}")
                wait = _LAST_RETRY_SECONDS
            else:
                retry = _FIRST_RETRY_SECONDS
                wait = min(max(wait or REFRESH_SECONDS, _REFRESH_AT_LEAST), _REFRESH_AT_MOST)
            self._listed.set()
            await asyncio.sleep(min(wait, _CHANGES_AT_MOST_EVERY))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(wait - _CHANGES_AT_MOST_EVERY, 0)):
                    await self._changed.wait()

    def _went_down(self, reason: str) -> None:
        if not self._reason or not self._listed.is_set():
            fields = {"server": self.name, "reason": reason}
            log.warning("an MCP server is down; its tools are not offered", extra={"fields": fields})
        self._reason = reason
        self._session.forget()
        self._tools = []
        self._on_tools(self.name, ())

    async def _call(
        self, name: str, arguments: JsonObject, headers: Mapping[str, str], context: ToolContext
    ) -> JsonObject:
        """Calls a tool. The errors are written for the model."""
        started, outcome = time.perf_counter(), "error"
        try:
            result = await self._session.call(
                name, arguments, headers=headers, seconds=self._seconds, context=context
            )
            outcome = "ok"
            return result
        except CallTimeout:
            outcome = "timeout"
            raise
        except Rejected as error:
            if error.code in (INVALID_PARAMS, METHOD_NOT_FOUND):
                self._changed.set()  # perhaps the tool was renamed
            raise ToolError(f"the MCP server {self.name} rejected the call: {error}") from None
        except McpError as error:
            if isinstance(error, Unreachable):
                outcome = "unreachable"
            self._changed.set()  # find out whether it is still there
            raise ToolError(f"the call of the MCP server {self.name} failed: {error}") from None
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._on_call(self.name, outcome, time.perf_counter() - started)
