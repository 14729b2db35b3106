"""The one answer to a request: a whole body, or a stream of events with heartbeats."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

import orjson

from ..errors import ApiError
from ..protocol import event
from .in_flight import InFlight

Header = tuple[bytes, bytes]

_HEARTBEAT = b": keep-alive\n\n"
_STREAM_HEADERS = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
)
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode() for status in range(200, 600)
}
_WITHOUT_BODY = (204, 304)


class Client(Protocol):
    """Where the answer goes."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    write_paused: bool

    @property
    def general_headers(self) -> bytes: ...

    async def drain(self) -> None: ...


class Reply:
    """A handler writes it: `whole` or `expect_stream` and `write`. Its `Exchange` alone ends it.

    Everything written is whole events, so that a heartbeat or an error never splits one.

    Args:
        chunked: whether the client understands a chunked body, as of HTTP/1.1.
        head_only: the answer has no body, as to a HEAD.

    Attributes:
        keep_alive: whether the connection serves another request after this one.
        finished: nothing more is written: the answer is complete, or its connection is gone.
    """

    __slots__ = (
        "_chunked", "_client", "_head_only", "_heartbeat_seconds", "_in_flight", "_last_write", "_loop",
        "_timer", "_transport", "finished", "keep_alive", "request_id", "started", "status",
    )  # fmt: skip

    def __init__(
        self,
        client: Client,
        request_id: str,
        *,
        in_flight: InFlight,
        keep_alive: bool,
        chunked: bool,
        head_only: bool,
        heartbeat_seconds: float,
    ) -> None:
        self._client = client
        self._transport = client.transport
        self._loop = client.loop
        self._in_flight = in_flight
        self._chunked = chunked
        self._head_only = head_only
        self._heartbeat_seconds = heartbeat_seconds
        self._last_write = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.keep_alive = keep_alive
        self.request_id = request_id
        self.status = 0
        self.started = False
        self.finished = False

    def whole(
        self,
        status: int,
        body: bytes,
        content_type: bytes = b"application/json",
        headers: Iterable[Header] = (),
    ) -> None:
        """The whole answer at once."""
        self.close()
        if self.finished:
            return
        if status in _WITHOUT_BODY:
            lines, body = b"", b""
        else:
            lines = b"content-type: %b\r\ncontent-length: %d\r\n" % (content_type, len(body))
        for name, value in headers:
            lines += b"%b: %b\r\n" % (name, value)
        self._transport.write(self._head(status, lines) + (b"" if self._head_only else body))
        self.finished = True

    def expect_stream(self) -> None:
        """From now on, silence is answered with headers and heartbeats."""
        self._last_write = self._loop.time()
        self._timer = self._loop.call_later(self._heartbeat_seconds, self._tick)

    async def write(self, events: bytes) -> None:
        """Sends whole events, and the headers before the first; waits while the client reads too slowly."""
        self._write(events)
        if self._client.write_paused:
            await self._client.drain()

    def end(self) -> None:
        """Ends a stream that is complete. Does nothing after a whole answer."""
        self.close()
        if self.finished:
            return
        head = b"" if self.started else self._stream_head()
        self._transport.write(head + (b"0\r\n\r\n" if self._chunked else b""))
        self.finished = True

    def abandon(self) -> None:
        """Writes nothing more: the connection is gone."""
        self.close()
        self.finished = True

    def fail(self, error: ApiError) -> None:
        """The error as the answer or, in a stream that has begun, as its last event."""
        if self.started:
            self._write(event(error.body()))
            self.end()
            return
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
        self.whole(error.status, orjson.dumps(error.body()), headers=encoded)

    def close(self) -> None:
        """Stops the heartbeats."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write(self, events: bytes) -> None:
        if self.finished:
            return
        if self._chunked:
            events = b"%x\r\n%b\r\n" % (len(events), events)
        if not self.started:
            events = self._stream_head() + events
        self._transport.write(events)
        if self._timer is not None:
            self._last_write = self._loop.time()

    def _stream_head(self) -> bytes:
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        return self._head(200, _STREAM_HEADERS + framing)

    def _head(self, status: int, lines: bytes) -> bytes:
        if status not in _STATUS_LINES:
            status = 502  # an engine's, which no client could read as an answer
        self.status = status
        self.started = True
        if self._in_flight.draining:
            self.keep_alive = False
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        return b"%b%b%bx-request-id: %b\r\n%b\r\n" % (
            _STATUS_LINES[status], self._client.general_headers, lines, self.request_id.encode("latin-1"),
            closing,
        )  # fmt: skip

    def _tick(self) -> None:
        wait = self._heartbeat_seconds
        silence = self._loop.time() - self._last_write
        if silence >= wait * 0.999:
            # A client that does not read needs no sign that the server lives.
            if not self._client.write_paused:
                self._write(_HEARTBEAT)
        else:
            wait -= silence
        self._timer = self._loop.call_later(wait, self._tick)
