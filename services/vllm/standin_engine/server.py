"""HTTP/1.1 on asyncio and httptools. A client that disconnects cancels its request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools
import orjson

log = logging.getLogger("standin")

_LARGEST_BODY = 64 * 1024 * 1024
_JSON = "application/json"


@dataclass(slots=True)
class Request:
    method: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    """Keyed by lower-case name."""
    body: bytearray = field(default_factory=bytearray)
    keep_alive: bool = True


Handler = Callable[[Request, "Connection"], Awaitable[None]]


class Cut(Exception):
    """Ends a request by closing its connection, no matter what has been sent."""


class Connection(asyncio.Protocol):
    """A client's connection. Answers its requests one after the other."""

    def __init__(self, handler: Handler, connections: set[Connection]) -> None:
        self._handler = handler
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._pending: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: Any = None
        self._chunked = False
        self._closing = False

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio dictates the name
        self._connections.discard(self)
        self._pending.clear()
        self._writable.set()
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._transport.close()
        except httptools.HttpParserError:
            if not self._transport.is_closing():
                self._transport.write(
                    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n"
                    b"content-length: 30\r\nconnection: close\r\n\r\nInvalid HTTP request received."
                )
                self._transport.close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # Called by the parser

    def on_message_begin(self) -> None:
        self._request = Request()

    def on_url(self, url: bytes) -> None:
        self._request.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method().decode("ascii")
        path = httptools.parse_url(request.path.encode("latin-1")).path or b"/"
        request.path = unquote_to_bytes(path).decode("utf-8", "replace")
        request.keep_alive = self._parser.should_keep_alive()
        if request.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._request.body += body
        if len(self._request.body) > _LARGEST_BODY:
            self._transport.abort()

    def on_message_complete(self) -> None:
        self._pending.append(self._request)
        if self._task is None:
            self._next()

    # Called by request handlers

    def respond(
        self,
        status: int,
        body: bytes | Mapping[str, Any] = b"",
        content_type: str = _JSON,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Sends a complete response; a mapping is sent as JSON."""
        head, content = _whole(status, body, content_type, headers)
        self._write(head + content)

    def respond_cut(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None) -> None:
        """Sends a response and closes the connection in the middle of its body."""
        head, content = _whole(status, body, _JSON, headers)
        self._write(head + content[: len(content) // 2])
        raise Cut

    def begin_stream(self, headers: Mapping[str, str] | None = None) -> None:
        """Sends the headers of an event stream."""
        self._chunked = True
        head = _head(200, "text/event-stream; charset=utf-8", headers)
        self._write(head + b"transfer-encoding: chunked\r\n\r\n")

    async def send_events(self, *events: bytes) -> None:
        """Sends events that are due together; waits while the client is not reading."""
        self._write(b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events))
        if not self._writable.is_set():
            await self._writable.wait()

    def end_stream(self) -> None:
        self._chunked = False
        self._write(b"0\r\n\r\n")

    # Requests, one after the other

    async def close_when_idle(self) -> None:
        """Closes the connection, after the current response if there is one, and waits for it to close."""
        self._closing = True
        if self._task is None:
            self._transport.close()
        else:
            await asyncio.wait([self._task])

    def abort(self) -> None:
        self._transport.abort()

    def _next(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(self._pending.popleft()))
        self._task.add_done_callback(self._done)

    async def _run(self, request: Request) -> None:
        try:
            await self._handler(request, self)
        except Cut:
            self._transport.close()
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            if self._chunked:
                self._transport.abort()
            else:
                self.respond(500, b"Internal Server Error", "text/plain; charset=utf-8")
        if not request.keep_alive or self._closing:
            self._transport.close()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if self._pending and not task.cancelled() and not self._transport.is_closing():
            self._next()

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


def _whole(
    status: int, body: bytes | Mapping[str, Any], content_type: str, headers: Mapping[str, str] | None
) -> tuple[bytes, bytes]:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    head = _head(status, content_type if content else "", headers)
    return head + b"content-length: %d\r\n\r\n" % len(content), content


def _head(status: int, content_type: str, headers: Mapping[str, str] | None) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"date: {_date()}", "server: standin"]
    if content_type:
        lines.append(f"content-type: {content_type}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n"


_last_date = (0, "")


def _date() -> str:
    """Returns the date header, which is rebuilt once per second."""
    global _last_date  # noqa: PLW0603 - a cache of one value
    now = int(time.time())
    if _last_date[0] != now:
        _last_date = (now, formatdate(now, usegmt=True))
    return _last_date[1]
