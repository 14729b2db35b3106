"""One client connection: handles its requests one after the other, with a time limit for each phase.

A request is answered before the next one is parsed. Up to `MAX_AHEAD_BYTES` that the client sends in the
meantime are kept. Reading never stops, so the server notices at once when a client leaves. As in nginx,
closing the client's side of the connection (FIN) counts as leaving.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
import sys
import termios

from ..errors import ApiError, InvalidRequest
from .body import Body, ChunkedBody, body_of
from .connections import Connections
from .endpoint import Exchange
from .head import END, MAX_HEAD_BYTES, Head, bad_request, head_too_large, may_become_head, parse_head
from .router import Router

log = logging.getLogger("orchestrator.api")

MAX_AHEAD_BYTES = 65_536
LINGER_SECONDS = 5.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpConnection(asyncio.Protocol):
    """Owns the transport: reads from it and decides when to close it.

    Attributes:
        idle_since: when the last answer was written or, before that, when the client connected.
        deadline: when the current phase must end, on the event loop's clock.
        unread_deadline: when the client must have read more of the answer that is waiting for it.
        write_paused: whether the client reads too slowly, so that nothing more should be written now.
    """

    __slots__ = (
        "_body", "_buffer", "_closing", "_connections", "_drained", "_exchange", "_idle", "_reading",
        "_router", "_scanned", "_unread", "deadline", "idle_since", "loop", "transport",
        "unread_deadline", "write_paused",
    )  # fmt: skip

    def __init__(self, connections: Connections, router: Router, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.transport: asyncio.Transport
        self.deadline = self.unread_deadline = math.inf
        self.idle_since = 0.0
        self.write_paused = False
        self._connections = connections
        self._router = router
        self._buffer = b""
        self._scanned = 0
        self._exchange: Exchange | None = None
        self._body: Body | ChunkedBody | None = None
        self._drained: asyncio.Future[None] | None = None
        self._unread = 0
        self._idle = True
        self._reading = False
        self._closing = False

    @property
    def general_headers(self) -> bytes:
        """The header lines that every answer has."""
        return self._connections.general_headers

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.idle_since = self.loop.time()
        self.deadline = self.idle_since + self._connections.limits.head_seconds
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._body is not None:
            self._receive_body(data)
        elif not self._closing:
            self._buffer = self._buffer + data if self._buffer else data
            if self._exchange is None:
                self._read_requests()
            if len(self._buffer) > MAX_AHEAD_BYTES and not self._closing:
                log.warning(
                    "closed the connection of a client that sent too much data before it had its answer"
                )
                self.abort()

    def eof_received(self) -> None:
        """Handles that the client has left."""
        if self._exchange is not None:
            self._exchange.lost()
        self._close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._closing = True
        self._connections.discard(self)
        self._resume_writer()
        if self._exchange is not None:
            self._exchange.lost()
        self._exchange = self._body = None

    def pause_writing(self) -> None:
        self.write_paused = True
        self._unread = self._count_unread()
        self.unread_deadline = self.loop.time() + self._connections.limits.unread_seconds

    def resume_writing(self) -> None:
        self.write_paused = False
        self.unread_deadline = math.inf
        self._resume_writer()
        if self._exchange is None and self._buffer and not self._reading:
            self._read_requests()

    async def drain(self) -> None:
        """Waits until the client has read enough."""
        if self.write_paused and not self._closing:
            self._drained = self.loop.create_future()
            await self._drained

    def answered(self, *, keep_alive: bool, body_whole: bool) -> None:
        """Continues after an answer was written. Each exchange calls this once."""
        self._exchange = self._body = None
        if self._closing:
            return
        if not keep_alive:
            self._close(linger=not body_whole)
            return
        self._idle = True
        self.idle_since = self.loop.time()
        self.deadline = self.idle_since + self._connections.idle_seconds
        if self._buffer and not self._reading:
            self._read_requests()

    def abort(self) -> None:
        """Aborts the connection and discards what has not been written yet."""
        self._closing = True
        self._buffer = b""
        self.transport.abort()

    def close_if_idle_in(self, seconds: float) -> None:
        """Closes the connection unless a request arrives within this time."""
        if self._idle and self._exchange is None:
            self.deadline = min(self.deadline, self.loop.time() + seconds)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered."""
        return self._idle and self._exchange is None and not self._closing

    def close_if_idle(self) -> bool:
        """Closes the connection unless a request has arrived. Returns whether it did."""
        if not self.is_idle or self._ask_kernel(termios.FIONREAD):
            return False
        self._close()
        return True

    def expire(self, now: float) -> None:
        """Handles that one of the deadlines has passed."""
        if self._closing or now >= self.unread_deadline:
            self._expect_reading(now)
        elif self._exchange is not None:
            self.deadline += self._exchange.take_extension()
            if now >= self.deadline:
                self._exchange.end_late()
        elif not self._idle:
            self._refuse(
                InvalidRequest(
                    "The request head did not arrive within "
                    f"{self._connections.limits.head_seconds:g} s (HEAD_TIMEOUT_SECONDS).",
                    status=408,
                    code="request_timeout",
                )
            )
        elif not self._ask_kernel(termios.FIONREAD):  # a request may have arrived that has not been read yet
            self._close()

    def _read_requests(self) -> None:
        """Reads requests for as long as they are answered at once and the client reads the answers."""
        buffer, start = self._buffer, 0
        self._reading = True
        while self._exchange is None and not self._closing and not self.write_paused:
            while buffer.startswith(b"\r\n", start):  # RFC 9112, 2.2
                start += 2
            end = buffer.find(END, max(start, self._scanned))
            if end < 0:
                break
            self._scanned = 0
            start = self._begin(buffer, start, end + len(END))
        self._reading = False
        self._buffer = b"" if self._closing else buffer[start:]
        if self._exchange is None and self._buffer and not self.write_paused:
            self._await_head()

    def _await_head(self) -> None:
        """Waits for the rest of a request's head."""
        buffer = self._buffer
        self._scanned = max(len(buffer) - len(END) + 1, 0)
        if len(buffer) > MAX_HEAD_BYTES:
            self._refuse(head_too_large())
        elif buffer != b"\r" and not may_become_head(buffer):
            self._refuse(bad_request(f"invalid start of a request: {buffer[:80]!r}"))
        elif self._idle:
            self._idle = False
            limit = self.loop.time() + self._connections.limits.head_seconds
            self.deadline = min(self.deadline, limit)

    def _begin(self, buffer: bytes, start: int, end: int) -> int:
        """Starts the request with the head `buffer[start:end]` and returns where the request's data ends."""
        limits = self._connections.limits
        try:
            head = parse_head(buffer[start:end])
            endpoint = self._router.find(head)
            body = body_of(head, endpoint.max_body_bytes)
        except ApiError as error:
            self._refuse(error)
            return end
        self._idle = False
        exchange = self._exchange = Exchange(endpoint, self, head)
        problem = None
        try:
            end = body.feed(buffer, end)
        except ApiError as error:
            problem = error
        exchange.body_whole = body.whole
        if not exchange.admit(problem):
            return end
        if not body.whole:
            try:
                exchange.hold(len(buffer) - start)
            except ApiError as error:
                exchange.end(error)
                return end
        if body.whole:
            self.deadline = exchange.begun + limits.request_seconds
            exchange.serve(body.content)
        else:
            self._body = body
            self.deadline = exchange.begun + limits.body_seconds
            if head.expects_continue:
                self.transport.write(_CONTINUE)
        return end

    def _receive_body(self, data: bytes) -> None:
        body, exchange = self._body, self._exchange
        assert body is not None
        assert exchange is not None
        try:
            exchange.hold(len(data))
            end = body.feed(data)
        except ApiError as error:
            exchange.end(error)
            return
        if body.whole:
            self._body = None
            self._buffer = data[end:]
            self.deadline = exchange.begun + self._connections.limits.request_seconds
            exchange.serve(body.content)

    def _refuse(self, error: ApiError) -> None:
        """Answers an invalid request with an error and closes the connection."""
        self._exchange = Exchange(self._router.unknown, self, Head())
        self._exchange.end(error)

    def _close(self, *, linger: bool = False) -> None:
        """Closes the connection once everything has been written.

        Args:
            linger: whether the client may still be sending. Its data is then read and discarded for a while,
                since the client's kernel would discard the answer on a reset (RFC 9112, 9.6).
        """
        self._closing = True
        self._buffer = b""
        self._unread = self._count_unread()
        limit = self._connections.limits.unread_seconds
        if linger and not self.transport.is_closing():
            self.transport.write_eof()
            limit = LINGER_SECONDS
        else:
            self.transport.close()
        self.deadline = self.loop.time() + limit

    def _expect_reading(self, now: float) -> None:
        """Aborts the connection unless the client has read something since the last check."""
        unread = self._count_unread()
        if 0 < unread < self._unread:
            limit = now + self._connections.limits.unread_seconds
            self._unread = unread
            if self._closing:
                self.deadline = limit
            else:
                self.unread_deadline = limit
        else:
            self.abort()

    def _count_unread(self) -> int:
        """Returns the number of unread bytes in the transport and in the kernel (SIOCOUTQ, tcp(7))."""
        return self.transport.get_write_buffer_size() + self._ask_kernel(termios.TIOCOUTQ)

    def _ask_kernel(self, question: int) -> int:
        """Returns the number that an ioctl on the socket reports, 0 if the socket is closed."""
        try:
            answer = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), question, bytes(4))
        except (OSError, ValueError):
            return 0
        return int.from_bytes(answer, sys.byteorder)

    def _resume_writer(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None
