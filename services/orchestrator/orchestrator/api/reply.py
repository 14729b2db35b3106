"""The one answer to a request: a whole body, or a stream of events with heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import orjson

from ..errors import ApiError
from ..protocol import event

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

_FAREWELL_SECONDS = 2.0
_HEARTBEAT = b": keep-alive\n\n"
_STREAM_HEADERS: list[Header] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Reply:
    """Everything written is whole events, so that a heartbeat or an error never splits one."""

    __slots__ = (
        "_beat", "_beating", "_closing", "_heartbeat_seconds", "_last_write", "_loop", "_send", "_timer",
        "_writing", "finished", "request_id", "started", "status",
    )  # fmt: skip

    def __init__(
        self, send: Send, request_id: str, *, closing: Callable[[], bool], heartbeat_seconds: float
    ) -> None:
        self._send = send
        self._closing = closing
        self._heartbeat_seconds = heartbeat_seconds
        self._loop = asyncio.get_running_loop()
        self._last_write = 0.0
        self._writing = False
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.Task[None] | None = None
        self._beating = False
        self.request_id = request_id
        self.status = 0
        self.started = False
        self.finished = False

    async def whole(
        self,
        status: int,
        body: bytes,
        content_type: bytes = b"application/json",
        headers: Iterable[Header] = (),
    ) -> None:
        """The whole answer at once."""
        self.close()
        length = (b"content-length", b"%d" % len(body))
        await self._start(status, [(b"content-type", content_type), length, *headers])
        self.finished = True
        await self._send({"type": "http.response.body", "body": body})

    def expect_stream(self) -> None:
        """From now on, silence is answered with headers and heartbeats."""
        self._last_write = self._loop.time()
        self._timer = self._loop.call_later(self._heartbeat_seconds, self._tick)

    async def write(self, events: bytes) -> None:
        """Sends whole events, and the headers before the first."""
        await self._let_beat_finish()
        self._writing = True
        try:
            if not self.started:
                await self._start(200, _STREAM_HEADERS)
            await self._send({"type": "http.response.body", "body": events, "more_body": True})
        finally:
            self._writing = False
            self._last_write = self._loop.time()

    async def end(self) -> None:
        """The end of a stream that is complete."""
        self.close()
        await self._let_beat_finish()
        self.finished = True
        await self._send({"type": "http.response.body", "body": b""})

    async def fail(self, error: ApiError) -> None:
        """The error as the answer or, in a stream that has begun, as its last event."""
        self.close()
        if self.finished:
            return
        if self.started:
            # A client that does not read any more is not waited for.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL_SECONDS):
                    await self.write(event(error.body()))
                    await self.end()
            return
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
        await self.whole(error.status, orjson.dumps(error.body()), headers=headers)

    def close(self) -> None:
        """Stops the heartbeats; one that is being sent goes on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._beat is not None and not self._beating:
            self._beat.cancel()
            self._beat = None

    async def _start(self, status: int, headers: list[Header]) -> None:
        headers = [*headers, (b"x-request-id", self.request_id.encode("latin-1"))]
        if self._closing():
            headers.append((b"connection", b"close"))
        self.status = status
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    def _tick(self) -> None:
        silence = self._loop.time() - self._last_write
        wait = self._heartbeat_seconds
        if not self._writing and self._beat is None:
            if silence >= wait * 0.999:
                self._beat = self._loop.create_task(self._send_beat())
            else:
                wait -= silence
        self._timer = self._loop.call_later(wait, self._tick)

    async def _let_beat_finish(self) -> None:
        if self._beat is not None and self._beating:
            await self._beat
        elif self._beat is not None:
            self._beat.cancel()
            self._beat = None

    async def _send_beat(self) -> None:
        self._beating = True
        try:
            if not self.started:
                await self._start(200, _STREAM_HEADERS)
            await self._send({"type": "http.response.body", "body": _HEARTBEAT, "more_body": True})
        finally:
            self._beat = None
            self._beating = False
            self._last_write = self._loop.time()
