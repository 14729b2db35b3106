"""One HTTP/1.1 connection to an engine or MCP server, based on httptools. It carries one request at a time.

This is our own client because it halves the CPU time of a relayed request compared with the fastest library
(docs/decisions/0002-engine-client.md).
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import socket
import termios
from ssl import SSLContext
from typing import Self, cast

import httptools

_PAUSE_AT = 262_144
_NOTHING = bytes(4)  # what FIONREAD returns if there is nothing to read
# A network that drops every packet is noticed after 30 s: by probes of the kernel on a silent connection, and
# by the limit for unacknowledged data (in ms) on others, tcp(7).
_TCP_OPTIONS = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}


OUR_FAILURES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""What keeps this process from opening connections, and so proves nothing about a server."""


class ConnectionBroken(Exception):
    """The connection ended before the answer was complete, or the peer did not send HTTP."""


class Connection(asyncio.Protocol):
    """A client connection: call `send`, then `head`, then `read` until `b""`, then keep it if `reusable`.

    Attributes:
        heard: when the server last sent something, or else when the request was sent, on the loop's clock.
        framed: whether the body's end is marked by its length or its last chunk.
        given_up: whether it was closed because the server does not answer.
    """

    __deletable__ = ("_parser",)  # for mypyc
    __slots__ = (
        "_body", "_broken", "_buffered", "_file", "_keep_alive", "_loop", "_parser", "_paused", "_started",
        "_transport", "_waiter", "complete", "content_type", "framed", "given_up", "heard", "idle_since",
        "location", "retry_after", "status",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._broken: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.idle_since = 0.0
        self.heard = 0.0
        self.given_up = False
        self._parser = httptools.HttpResponseParser(self)
        self._begin()

    @classmethod
    async def open(
        cls, host: str, port: int, *, tls: SSLContext | None = None, server_name: str | None = None
    ) -> Self:
        """Opens a connection.

        Raises:
            OSError: the operating system reported an error.
        """
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: cls(loop), host, port, ssl=tls, server_hostname=server_name if tls else None
        )
        return connection

    def _begin(self) -> None:
        self._body: list[bytes] = []
        self._buffered = 0
        self._paused = False
        self._started = False
        self.framed = False
        self._keep_alive = False
        self.complete = False
        self.status = 0
        self.content_type = b""
        self.retry_after = b""
        self.location = b""

    def send(self, request: bytes) -> None:
        """Starts the next exchange on this connection."""
        self._begin()
        if self._transport is None or self._broken:
            raise ConnectionBroken(self._broken or "not connected")
        self.heard = self._loop.time()
        self._transport.write(request)

    async def head(self) -> None:
        """Waits for the status and the headers.

        Raises:
            ConnectionBroken: the connection ended first.
        """
        while not self._started:
            await self._news()

    async def read(self) -> bytes:
        """Waits for body bytes and returns all that have arrived since the last read, or `b""` at the end.

        Raises:
            ConnectionBroken: the connection ended before the body was complete.
        """
        while not self._body:
            if self.complete:
                return b""
            await self._news()
        body = self._body
        self._body = []
        self._buffered = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return body[0] if len(body) == 1 else b"".join(body)

    @property
    def reusable(self) -> bool:
        return self._keep_alive and not self._broken and not self._body

    @property
    def broken(self) -> bool:
        return self._broken is not None

    @property
    def answered(self) -> bool:
        """Whether any part of the answer to the last request has arrived."""
        return self._started

    @property
    def paused(self) -> bool:
        """Whether nothing is read because the client is too slow."""
        return self._paused

    def has_unread_data(self) -> bool:
        """Whether the kernel holds bytes that the server sent although nothing was requested."""
        if self._transport is None:
            return False
        try:
            return fcntl.ioctl(self._file, termios.FIONREAD, _NOTHING) != _NOTHING
        except OSError:  # closed
            return True

    def give_up(self) -> None:
        """Closes the connection because the server does not answer, and reports that to the reader."""
        self.given_up = True
        self._broken = self._broken or "the server does not answer, not even to health probes"
        self.abort()

    def abort(self) -> None:
        """Closes at once, so that an engine stops generating."""
        self._broken = self._broken or "closed by us"
        if self._transport is not None:
            self._transport.abort()

    def _news(self) -> asyncio.Future[None]:
        if self._broken:
            raise ConnectionBroken(self._broken)
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        used = transport.get_extra_info("socket")
        self._file = used.fileno()
        used.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _TCP_OPTIONS.items():
            if hasattr(socket, name):  # Linux has all of them
                used.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def data_received(self, data: bytes) -> None:
        self.heard = self._loop.time()
        if self.complete:
            self._broken = "the server sent data that was not requested"
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._broken = self._broken or "the server switched to another protocol, which was not requested"
        except httptools.HttpParserError as error:
            self._broken = self._broken or f"the answer is not HTTP: {error}"
        if self._broken:
            self.abort()
        if self._buffered > _PAUSE_AT and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._started and not self.framed and exc is None and not self._broken:
            self.complete = True  # a body without a length ends with its connection
        self._broken = self._broken or (str(exc) if exc else "closed by the server")
        self._wake()
        del self._parser  # breaks a reference cycle, which the garbage collector would find late

    # httptools' callbacks

    def on_message_begin(self) -> None:
        if self._started:
            self._broken = self._broken or "the server sent two answers to one request"
            self._body, self.complete = [], False

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered == b"content-type":
            self.content_type = value
        elif lowered in (b"content-length", b"transfer-encoding"):
            self.framed = True
        elif lowered == b"retry-after":
            self.retry_after = value
        elif lowered == b"location":
            self.location = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
            self._started = True

    def on_body(self, body: bytes) -> None:
        if self._broken:
            return
        self._body.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self._started and self._broken is None:
            self.complete = True
            self._keep_alive = self._parser.should_keep_alive()
