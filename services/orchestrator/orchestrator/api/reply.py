"""The answer to a request: a whole body, or a stream of events with heartbeats."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

from ..errors import ApiError
from .error_format import OPENAI_ERRORS, ErrorFormat
from .in_flight import InFlight

Header = tuple[bytes, bytes]

# A comment without a blank line: to some decoders, a blank line ends an event even if it has no data.
HEARTBEAT = b": keep-alive\n"
_STREAM_HEADERS = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
)
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode() for status in range(200, 600)
}
_WITHOUT_BODY = (204, 304)


class Client(Protocol):
    """The connection that the answer is written to."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    write_paused: bool

    @property
    def general_headers(self) -> bytes: ...

    async def drain(self) -> None: ...


class Reply:
    """A handler writes it with `whole`, or with `expect_stream` and `write`. Only its `Exchange` ends it.

    Only whole events are written, so a heartbeat or an error never splits one.

    Args:
        chunked: whether the client supports chunked bodies, as HTTP/1.1 requires.
        head_only: whether the answer has no body, as for HEAD.
        errors: the format of errors.

    Attributes:
        lines: header lines to add.
        errors: as above; a handler may set another format.
        keep_alive: whether the connection stays open for another request.
        finished: whether the answer is complete or its connection is gone, so that nothing more is written.
    """

    __slots__ = (
        "_chunked", "_client", "_head_only", "_heartbeat_seconds", "_in_flight", "_last_write", "_loop",
        "_timer", "_transport", "errors", "finished", "keep_alive", "lines", "request_id", "started",
        "status",
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
        lines: bytes = b"",
        errors: ErrorFormat = OPENAI_ERRORS,
    ) -> None:
        self._client = client
        self._transport = client.transport
        self._loop = client.loop
        self._in_flight = in_flight
        self._chunked = chunked
        self._head_only = head_only
        self.lines = lines
        self._heartbeat_seconds = heartbeat_seconds
        self._last_write = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.errors = errors
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
        """Writes the whole answer at once."""
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

    def add_header(self, name: bytes, value: str) -> None:
        """Adds a header field to the answer. What is not printable ASCII becomes `?`."""
        shown = "".join(c if " " <= c <= "~" else "?" for c in value)
        self.lines += b"%b: %b\r\n" % (name, shown.encode())

    def expect_stream(self) -> None:
        """Sends headers and heartbeats whenever the handler is silent for too long from now on."""
        self._last_write = self._loop.time()
        self._timer = self._loop.call_later(self._heartbeat_seconds, self._tick)

    async def write(self, events: bytes) -> None:
        """Sends whole events, after the headers if needed, and waits while the client reads too slowly."""
        self._write(events)
        if self._client.write_paused:
            await self._client.drain()

    def end(self) -> None:
        """Ends a complete stream. Does nothing after a whole answer."""
        self.close()
        if self.finished:
            return
        head = b"" if self.started else self._stream_head()
        self._transport.write(head + (b"0\r\n\r\n" if self._chunked else b""))
        self.finished = True

    def abandon(self) -> None:
        """Stops writing because the connection is gone."""
        self.close()
        self.finished = True

    def fail(self, error: ApiError) -> None:
        """Sends an error as the answer or, if a stream has started, as its last event."""
        if self.started:
            if events := self.errors.last_events(error, self.request_id):
                self._write(events)
            self.end()
            return
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
        self.whole(error.status, self.errors.body(error, self.request_id), headers=encoded)

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
            status = 502  # an invalid status from the engine, which no client would accept
        self.status = status
        self.started = True
        if self._in_flight.draining:
            self.keep_alive = False
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        return b"%b%b%b%bx-request-id: %b\r\n%b\r\n" % (
            _STATUS_LINES[status], self._client.general_headers, lines, self.lines,
            self.request_id.encode("latin-1"), closing,
        )  # fmt: skip

    def _tick(self) -> None:
        wait = self._heartbeat_seconds
        silence = self._loop.time() - self._last_write
        if silence >= wait * 0.999:
            # A client that does not read needs no heartbeats.
            if not self._client.write_paused:
                self._write(HEARTBEAT)
        else:
            wait -= silence
        self._timer = self._loop.call_later(wait, self._tick)
