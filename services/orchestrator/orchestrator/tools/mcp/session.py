"""Speaks with one MCP server: finds the version that both know, lists tools and calls them.

The newest version has no sessions: each request stands alone. Older ones start with a handshake, and their
servers may forget the session, for example when they restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..context import ToolContext
from ..running import CallTimeout
from .deadline import Deadline
from .wire import (
    CLIENT_INFO,
    HANDSHAKES,
    METHOD_NOT_FOUND,
    MODERN,
    JsonObject,
    McpError,
    Rejected,
    SessionLost,
    header_value,
    modern_meta,
    notification,
    request,
    trace_headers,
    trace_meta,
)

OnMessage = Callable[[JsonObject], None]

log = logging.getLogger("orchestrator.mcp")

HANDSHAKE_SECONDS = 10.0
_NOTIFY_SECONDS = 2.0
_LISTEN_AGAIN_SECONDS = 5.0
_BACKGROUND = 64
_PAGES = 100
_TOOLS = 1000


class Transport(Protocol):
    """How messages reach the server.

    Attributes:
        session_id: the session of an older version, empty if there is none.
        cancels_by_closing: whether a request of the newest version is cancelled by closing its connection.
        unasked: takes the messages that do not belong to a request.
        first_seconds: how long the first answer may take, before an older version is tried.
    """

    session_id: str
    cancels_by_closing: bool
    unasked: OnMessage
    first_seconds: float

    async def request(
        self, message: JsonObject, headers: Mapping[str, str], on_message: OnMessage
    ) -> JsonObject: ...

    async def notify(self, message: JsonObject, headers: Mapping[str, str]) -> None: ...

    async def listen(self, headers: Mapping[str, str]) -> None: ...

    async def end_session(self, headers: Mapping[str, str]) -> None: ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class _Ask:
    """A request before its version is known. Without a number it gets the next one."""

    method: str
    params: JsonObject = field(default_factory=dict)
    number: int = 0
    meta: JsonObject = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    on_message: OnMessage | None = None


class Session:
    """The conversation with one server.

    Args:
        transport: how messages reach it.
        on_change: called when the server says that its list of tools has changed; None if nobody asks.

    Attributes:
        version: the version of the protocol, empty until the server has been asked.
    """

    def __init__(self, transport: Transport, on_change: Callable[[], None] | None) -> None:
        self._transport = transport
        transport.unasked = self._handle
        self._on_change = on_change
        self._numbers = itertools.count(1)
        self._connecting = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()
        self._closed = False
        self._listener: asyncio.Task[None] | None = None
        self.version = ""

    @property
    def _modern(self) -> bool:
        return self.version == MODERN

    async def list_tools(self) -> tuple[list[Any], float | None]:
        """Returns the definitions of all tools as the server sent them, and for how many seconds they hold.

        Raises:
            McpError: the server cannot be used.
        """
        tools: list[Any] = []
        seconds: float | None = None
        cursor: Any = None
        for _ in range(_PAGES):
            params = {} if cursor is None else {"cursor": cursor}
            try:
                async with asyncio.timeout(HANDSHAKE_SECONDS):
                    page = await self._repeatable(_Ask("tools/list", params))
            except TimeoutError:
                raise McpError(f"the server did not list its tools within {HANDSHAKE_SECONDS:g} s") from None
            found = page.get("tools")
            if not isinstance(found, list):
                raise McpError("the server's list of tools is not a list")
            tools += found
            ttl = page.get("ttlMs")
            if isinstance(ttl, int | float) and ttl >= 0:
                seconds = ttl / 1000
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str) or len(tools) > _TOOLS:
                break
        return tools[:_TOOLS], seconds

    async def call(
        self,
        name: str,
        arguments: JsonObject,
        *,
        headers: Mapping[str, str],
        seconds: float,
        context: ToolContext,
    ) -> JsonObject:
        """Calls a tool and returns the result as the server sent it.

        Each progress notification starts the time limit again. If the limit passes or the caller is
        cancelled, so is the call on the server.

        Raises:
            CallTimeout: the time limit has passed. McpError: the server cannot be used, or rejected the call.
        """
        number = next(self._numbers)
        trace = trace_meta(context)
        limit = Deadline(seconds)

        def on_message(message: JsonObject) -> None:
            if message.get("method") == "notifications/progress":
                limit.extend()
            else:
                self._handle(message)

        params = {"name": name, "arguments": arguments}
        meta = {"progressToken": number, **trace}
        more = {**headers, **trace_headers(trace)}
        try:
            return await self._repeatable(_Ask("tools/call", params, number, meta, more, on_message))
        except TimeoutError:
            raise McpError("the server did not answer in time") from None
        except asyncio.CancelledError:
            if limit.is_reason():
                self._cancel(number, "the time limit has passed")
                raise CallTimeout(f"{name} took longer than {seconds:g} s and was cancelled") from None
            self._cancel(number, "the client has left")
            raise
        finally:
            limit.end()

    async def connect(self) -> None:
        """Finds a version that both know.

        Raises:
            McpError: the server cannot be used.
        """
        self.forget()
        try:
            async with asyncio.timeout(self._transport.first_seconds):
                found = await self._send(_Ask("server/discover"), MODERN)
            if MODERN in _strings(found.get("supportedVersions")):
                self.version = MODERN
                self._start_listening(found)
                return
        except Rejected as error:
            if error.code in (401, 403):
                raise
        except TimeoutError:
            pass  # a program of an older version may ignore what it does not know
        await self._shake_hands()

    async def close(self) -> None:
        self._closed = True
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.cancel()
        if self._transport.session_id:
            try:
                async with asyncio.timeout(_NOTIFY_SECONDS):
                    await self._transport.end_session(self._headers("", {}))
            except (McpError, TimeoutError):
                pass  # it ends by itself
        background = list(self._background)
        for task in background:
            task.cancel()
        await self._transport.close()
        if background:
            await asyncio.wait(background, timeout=_NOTIFY_SECONDS)

    def forget(self) -> None:
        """Forgets the version and the session, so that the next request asks again."""
        self.version = self._transport.session_id = ""
        if self._listener is not None:
            self._listener.cancel()
            self._listener = None

    async def _shake_hands(self) -> None:
        params = {"protocolVersion": HANDSHAKES[0], "capabilities": {}, "clientInfo": CLIENT_INFO}
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                answer = await self._send(_Ask("initialize", params), "")
                if answer.get("protocolVersion") not in HANDSHAKES:
                    raise McpError(
                        f"the server speaks version {str(answer.get('protocolVersion'))[:40]!r} of MCP; "
                        f"known are {', '.join((MODERN, *HANDSHAKES))}"
                    )
                self.version = answer["protocolVersion"]
                done = notification("notifications/initialized", {})
                await self._transport.notify(done, self._headers(done["method"], {}))
        except TimeoutError:
            raise McpError(f"the server did not answer within {HANDSHAKE_SECONDS:g} s") from None
        self._start_listening(answer)

    def _start_listening(self, answer: JsonObject) -> None:
        """Listens for changes if the server says that it reports them."""
        capabilities = answer.get("capabilities")
        tools = capabilities.get("tools") if isinstance(capabilities, dict) else None
        if self._on_change and isinstance(tools, dict) and tools.get("listChanged") is True:
            self._listener = asyncio.get_running_loop().create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            try:
                if self._modern:
                    params = {"notifications": {"toolsListChanged": True}}
                    await self._send(_Ask("subscriptions/listen", params), MODERN)
                else:
                    await self._transport.listen(self._headers("", {}))
            except SessionLost:
                self._changed()  # which starts a new session
                return
            except Rejected:
                return  # the server does not offer it
            except McpError:
                log.debug("a stream of changes ended", exc_info=True)
            await asyncio.sleep(_LISTEN_AGAIN_SECONDS)

    async def _repeatable(self, ask: _Ask) -> JsonObject:
        """Sends a request, and sends it again if the session is lost, which the server reports first."""
        if not self.version:
            await self._connect_once("")
        session = self._transport.session_id
        with contextlib.suppress(SessionLost):
            return await self._send(ask, self.version)
        await self._connect_once(session)
        return await self._send(ask, self.version)

    async def _connect_once(self, lost: str) -> None:
        """Connects, unless another request has already replaced the lost session."""
        async with self._connecting:
            if not self.version or (lost and self._transport.session_id == lost):
                await self.connect()

    async def _send(self, ask: _Ask, version: str) -> JsonObject:
        meta = {**(modern_meta() if version == MODERN else {}), **ask.meta}
        params = {**ask.params, "_meta": meta} if meta else ask.params
        headers = {**self._headers(ask.method, params, version), **ask.headers}
        message = request(ask.number or next(self._numbers), ask.method, params)
        return await self._transport.request(message, headers, ask.on_message or self._handle)

    def _headers(self, method: str, params: JsonObject, version: str | None = None) -> dict[str, str]:
        version = self.version if version is None else version
        lines = {"MCP-Protocol-Version": version} if version else {}
        if version == MODERN:
            lines["Mcp-Method"] = method
            if method == "tools/call":
                lines["Mcp-Name"] = header_value(params["name"])
        return lines

    def _cancel(self, number: int, reason: str) -> None:
        """Cancels a request on the server. With the newest version, closing its connection does that."""
        if self._modern and self._transport.cancels_by_closing:
            return
        if self.version:
            message = notification("notifications/cancelled", {"requestId": number, "reason": reason})
            self._in_background(self._notify(message))

    async def _notify(self, message: JsonObject) -> None:
        try:
            async with asyncio.timeout(_NOTIFY_SECONDS):
                await self._transport.notify(message, self._headers(message.get("method", ""), {}))
        except (McpError, TimeoutError):
            log.debug("a notification did not reach an MCP server", exc_info=True)

    def _handle(self, message: JsonObject) -> None:
        """Handles a message that is not the answer to a request."""
        method, number = message.get("method"), message.get("id")
        if method == "notifications/tools/list_changed":
            self._changed()
        elif isinstance(method, str) and number is not None:
            answer: JsonObject = {"jsonrpc": "2.0", "id": number}
            if method == "ping":
                answer["result"] = {}
            else:
                answer["error"] = {"code": METHOD_NOT_FOUND, "message": f"{method[:80]} is not supported"}
            self._in_background(self._notify(answer))

    def _changed(self) -> None:
        if self._on_change:
            self._on_change()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        if self._closed or len(self._background) >= _BACKGROUND:
            work.close()  # a server that floods us, or goes on sending while it is being stopped
            return
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _strings(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
