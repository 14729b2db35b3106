"""MCP over streamable HTTP: one POST per message, answered with JSON or with a stream of events."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import select
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import orjson

from ...connection import Connection, ConnectionBroken
from ...errors import Overloaded
from ...memory import Budget, Share
from ...protocol import EventBuffer, dumps
from .wire import JsonObject, McpError, Rejected, SessionLost, Unreachable, is_answer, parse, result_of

OnMessage = Callable[[JsonObject], None]
T = TypeVar("T")

MAX_ANSWER_BYTES = 8_388_608
CONNECT_SECONDS = 5.0
_SMALL_BYTES = 16_384
"""An answer that has arrived in one piece of this size is parsed at once, so it takes none of the budget."""
_IDLE_SECONDS = 3.0  # servers on uvicorn close idle connections after 5 s
_IDLE_CONNECTIONS = 32
_END_SECONDS = 1.0
_REDIRECTS = range(300, 400)
_SESSION_LOST = b"session"
_ACCEPT = {
    "POST": "Content-Type: application/json\r\nAccept: application/json, text/event-stream",
    "GET": "Accept: text/event-stream",
    "DELETE": "Accept: application/json, text/event-stream",
}


class McpConnection(Connection):
    """A connection that also keeps the session that a server starts."""

    __slots__ = ("_poll", "session_id")

    def send(self, request: bytes) -> None:
        self.session_id = b""
        super().send(request)

    @property
    def ended(self) -> bool:
        """Whether the whole answer has been read."""
        return self.complete and not self._body

    @property
    def idle_seconds(self) -> float:
        """How long ago the server last sent something."""
        return self._loop.time() - self.heard

    def is_open(self) -> bool:
        """Returns whether the server has sent nothing since its last answer, not even the end.

        The event loop may not have seen it yet, and a call that is lost cannot be repeated.
        """
        return not self.broken and not self._poll.poll(0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLIN | select.POLLRDHUP)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"mcp-session-id":
            self.session_id = value
        else:
            super().on_header(name, value)


class HttpTransport:
    """The connections to one server.

    Args:
        url: the server's endpoint.
        headers: header lines of every request.
        address: the IP address to connect to, if it was checked. Default: what the name resolves to.
        budget: the memory that all answers may use together.
    """

    cancels_by_closing = True
    first_seconds = 3.0

    def __init__(
        self, url: str, headers: Mapping[str, str], *, budget: Budget, address: str | None = None
    ) -> None:
        parts = urlsplit(url)
        self._tls = _tls() if parts.scheme == "https" else None
        self._name = parts.hostname or ""
        self._host = address or self._name
        self._port = parts.port or (443 if self._tls else 80)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        own = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        host = parts.netloc.rpartition("@")[2]
        self._lines = {
            method: f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tandem\r\n{own}{accept}\r\n"
            for method, accept in _ACCEPT.items()
        }
        self._budget = budget
        self._idle: list[McpConnection] = []
        self._ending: set[asyncio.Task[None]] = set()
        self.session_id = ""
        self.unasked: OnMessage = lambda _: None

    async def request(
        self, message: JsonObject, headers: Mapping[str, str], on_message: OnMessage
    ) -> JsonObject:
        """Sends a request and returns its result. Everything else that the server sends goes to `on_message`.

        If the caller is cancelled, the connection is closed.

        Raises:
            McpError: see the subclasses.
        """

        async def read(connection: McpConnection) -> JsonObject:
            if connection.session_id and message["method"] == "initialize":
                self.session_id = connection.session_id.decode("latin-1")
            if connection.content_type.startswith(b"text/event-stream"):
                return result_of(await self._answer_in_events(connection, message["id"], on_message))
            return result_of(parse(await self._whole(connection)))

        return await self._exchange("POST", headers, dumps(message), read)

    async def notify(self, message: JsonObject, headers: Mapping[str, str]) -> None:
        """Sends a notification, or the answer to a request of the server's."""
        await self._exchange("POST", headers, dumps(message), self._whole)

    async def listen(self, headers: Mapping[str, str]) -> None:
        """Reads what a server of the older protocol sends unasked, until it ends the stream."""

        async def read(connection: McpConnection) -> None:
            if connection.content_type.startswith(b"text/event-stream"):
                await self._read_events(connection, _all_of_them(self.unasked))

        await self._exchange("GET", headers, b"", read)

    async def end_session(self, headers: Mapping[str, str]) -> None:
        await self._exchange("DELETE", headers, b"", self._whole)

    async def close(self) -> None:
        for task in list(self._ending):
            task.cancel()
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def _exchange(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes,
        read: Callable[[McpConnection], Awaitable[T]],
    ) -> T:
        """Sends a request, reads a successful answer with `read`, and keeps or closes the connection."""
        session = self.session_id
        lines = self._lines[method]
        if session:
            lines += f"Mcp-Session-Id: {session}\r\n"
        for name, value in headers.items():
            lines += f"{name}: {value}\r\n"
        if body:
            lines += f"Content-Length: {len(body)}\r\n"
        connection = self._kept() or await self._connect()
        try:
            connection.send(f"{lines}\r\n".encode("latin-1", "replace") + body)
            await connection.head()
            if connection.status >= 300:
                await self._raise_for(connection, has_session=bool(session))
            result = await read(connection)
        except ConnectionBroken as error:
            connection.abort()
            raise McpError(f"the connection to the server broke during the request ({error})") from None
        except BaseException:
            connection.abort()
            raise
        self._release(connection)
        return result

    def _kept(self) -> McpConnection | None:
        """Returns an idle connection that is still open."""
        while self._idle:
            kept = self._idle.pop()
            if kept.idle_seconds < _IDLE_SECONDS and kept.is_open():
                return kept
            kept.abort()
        return None

    async def _connect(self) -> McpConnection:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await McpConnection.open(self._host, self._port, tls=self._tls, server_name=self._name)
        except TimeoutError:
            raise Unreachable(f"the server could not be connected to within {CONNECT_SECONDS:g} s") from None
        except OSError as error:
            raise Unreachable(f"the server cannot be reached: {error.strerror or error}") from None

    def _release(self, connection: McpConnection) -> None:
        """Keeps a connection, at once or when its answer ends. The result is there already."""
        if connection.complete:
            self._keep(connection)
            return
        task = asyncio.get_running_loop().create_task(self._end(connection))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, connection: McpConnection) -> None:
        try:
            async with asyncio.timeout(_END_SECONDS):
                while await connection.read():
                    pass
        except (TimeoutError, ConnectionBroken, asyncio.CancelledError):
            connection.abort()
        else:
            self._keep(connection)

    def _keep(self, connection: McpConnection) -> None:
        if connection.reusable and len(self._idle) < _IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.abort()

    async def _whole(self, connection: McpConnection) -> bytes:
        """Returns the whole body.

        Raises:
            McpError: it is too large.
        """
        piece = await connection.read()
        if len(piece) <= _SMALL_BYTES and connection.ended:
            return piece
        share, parts, size = Share(self._budget), [piece], len(piece)
        try:
            share.resize(3 * size)
            while piece := await connection.read():
                size += len(piece)
                _check_size(size)
                share.resize(3 * size)
                parts.append(piece)
        except Overloaded:
            raise McpError("the answer does not fit into the memory of all requests") from None
        finally:
            share.resize(0)
        return b"".join(parts)

    async def _answer_in_events(
        self, connection: McpConnection, number: int, on_message: OnMessage
    ) -> JsonObject:
        answers: list[JsonObject] = []

        def read(message: JsonObject) -> bool:
            if is_answer(message, number):
                answers.append(message)
            else:
                on_message(message)
            return bool(answers)

        await self._read_events(connection, read)
        if not answers:
            raise McpError("the server ended its stream of events without an answer")
        return answers[0]

    async def _read_events(self, connection: McpConnection, read: Callable[[JsonObject], bool]) -> None:
        """Passes the messages in a stream to `read` until it returns True or the stream ends."""
        buffer, share, size = EventBuffer(MAX_ANSWER_BYTES), Share(self._budget), 0
        try:
            while piece := await connection.read():
                size += len(piece)
                _check_size(size)
                share.resize(3 * size)
                for data in _data(buffer.feed(piece)):
                    size = 0
                    if read(parse(data)):
                        return
        except Overloaded:
            raise McpError("the answer does not fit into the memory of all requests") from None
        finally:
            share.resize(0)

    async def _raise_for(self, connection: McpConnection, *, has_session: bool) -> None:
        """Raises the error of an answer that is not successful.

        Raises:
            SessionLost: the server does not know the session. Rejected: everything else.
        """
        status = connection.status
        body = await self._whole(connection)
        # Some servers answer 400, and name the session, where the protocol asks for 404.
        if has_session and (status == 404 or (status == 400 and _SESSION_LOST in body.lower())):
            raise SessionLost("the server does not know the session any longer")
        if status in _REDIRECTS:
            raise Rejected(f"the server redirects (HTTP status {status}): use the URL itself", status)
        if status in (401, 403):
            raise Rejected(f"the server rejects the credentials (HTTP status {status})", status)
        error: Any = None
        with contextlib.suppress(orjson.JSONDecodeError):
            error = orjson.loads(body)
        if isinstance(error, dict) and error.get("error") is not None:
            result_of(error)
        raise Rejected(f"the server answered with HTTP status {status}", status)


def _all_of_them(on_message: OnMessage) -> Callable[[JsonObject], bool]:
    def read(message: JsonObject) -> bool:
        on_message(message)
        return False

    return read


@functools.cache
def _tls() -> ssl.SSLContext:
    """Returns the context of all connections, since the authorities' certificates take a megabyte."""
    return ssl.create_default_context()


def _data(block: bytes) -> list[bytes]:
    """Returns the data of the events in a block; those without data only carry an id."""
    found = []
    for event in block.split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
        if lines and any(lines):
            found.append(b"\n".join(lines))
    return found


def _check_size(size: int) -> None:
    if size > MAX_ANSWER_BYTES:
        raise McpError(f"the server's answer has more than {MAX_ANSWER_BYTES:,} bytes")
