"""Sends spans to a collector in the background: no request ever waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from collections.abc import Mapping
from urllib.parse import urlsplit

import orjson

from .. import __version__
from ..connection import Connection, ConnectionBroken
from .otlp import Encoder
from .span import Trace

log = logging.getLogger("orchestrator.traces")

SEND_EVERY_SECONDS = 5.0
_SPANS_AT_ONCE = 512
_SPANS_PER_STEP = 32  # about 0.3 ms of encoding, during which nothing else runs
_CHARACTERS_AT_MOST = 16_777_216
_ATTEMPTS = 5
_FIRST_RETRY_SECONDS = 1.0
_RETRY_AT_MOST_SECONDS = 30.0
_TIMEOUT_SECONDS = 10.0
_CLOSE_SECONDS = 3.0
_ANSWER_AT_MOST = 65_536
_BUSY = frozenset({429, 502, 503, 504})
"""The statuses after which OTLP lets a client send the same spans again."""


class _Failed(Exception):
    """The collector did not take spans.

    Attributes:
        again_after: when they may be sent again, in seconds; None if they may not.
    """

    def __init__(self, reason: str, again_after: float | None = None) -> None:
        super().__init__(reason)
        self.again_after = again_after


class Exporter:
    """A bounded queue of traces, and the task that sends them.

    Args:
        url: where spans are sent.
        headers: header lines of every request.
        resource: the attributes of the service.
        queue_spans: how many spans may wait. Whole traces beyond that are dropped.

    Attributes:
        counts: spans by what has become of them.
    """

    def __init__(
        self, url: str, *, headers: Mapping[str, str], resource: Mapping[str, str], queue_spans: int
    ) -> None:
        self.counts = {"sent": 0, "queue_full": 0, "rejected": 0, "not_sent": 0, "too_many": 0}
        parts = urlsplit(url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        own = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._head = (
            f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"User-Agent: tandem/{__version__}\r\nContent-Type: application/json\r\n{own}"
        )
        self._encoder = Encoder(resource)
        self._queue: deque[tuple[Trace, int]] = deque()
        self._limit = queue_spans
        self._waiting = 0
        self._characters = 0
        self._enough = asyncio.Event()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._problem: str | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Sends what is left, for a few seconds."""
        self._closing = True
        self._enough.set()
        if self._task is not None:
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._task
        self._drop_connection()

    def offer(self, trace: Trace, lost: int = 0) -> None:
        """Queues a trace, or drops it if too much is waiting.

        Args:
            lost: the number of spans that the trace is without.
        """
        self.counts["too_many"] += lost
        characters = sum(
            len(value) for span in trace.spans for value in span.attributes.values() if type(value) is str
        )
        count = len(trace.spans)
        if self._waiting + count > self._limit or self._characters + characters > _CHARACTERS_AT_MOST:
            self.counts["queue_full"] += count
            return
        self._queue.append((trace, characters))
        self._waiting += count
        self._characters += characters
        if self._waiting >= min(_SPANS_AT_ONCE, self._limit // 2):
            self._enough.set()

    async def _run(self) -> None:
        while not self._closing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SEND_EVERY_SECONDS):
                    await self._enough.wait()
            self._enough.clear()
            await self._send_all()
        await self._send_all()

    async def _send_all(self) -> None:
        while self._queue:
            try:
                count, body = await self._next_batch()
                await self._deliver(count, body)
            except Exception:
                log.exception("traces could not be sent")
                await asyncio.sleep(_FIRST_RETRY_SECONDS)

    async def _next_batch(self) -> tuple[int, bytes]:
        parts, total, step, spans_in_step = [], 0, list[Trace](), 0
        while self._queue and (total < _SPANS_AT_ONCE):
            trace, characters = self._queue.popleft()
            self._waiting -= len(trace.spans)
            self._characters -= characters
            total += len(trace.spans)
            spans_in_step += len(trace.spans)
            step.append(trace)
            if spans_in_step >= _SPANS_PER_STEP:
                parts.append(self._encoder.spans(step))
                step, spans_in_step = [], 0
                await asyncio.sleep(0)  # requests go on
        parts.append(self._encoder.spans(step))
        return total, self._encoder.request(parts)

    async def _deliver(self, count: int, body: bytes) -> None:
        """Sends a batch, again while the collector is busy or cannot be reached."""
        wait = _FIRST_RETRY_SECONDS
        for attempt in range(_ATTEMPTS):
            try:
                rejected = await self._send(body)
            except _Failed as failure:
                self._report(str(failure))
                if failure.again_after is None or attempt == _ATTEMPTS - 1 or self._closing:
                    break
                await self._pause(max(wait, failure.again_after))
                wait *= 2
            else:
                self.counts["rejected"] += rejected
                self.counts["sent"] += count - rejected
                if not rejected:
                    self._report(None)
                return
        self.counts["not_sent"] += count

    async def _pause(self, seconds: float) -> None:
        """Waits, except while the server stops."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, _RETRY_AT_MOST_SECONDS)):
                while not self._closing:
                    self._enough.clear()
                    await self._enough.wait()

    async def _send(self, body: bytes) -> int:
        """Sends one request and returns how many spans the collector has rejected.

        Raises:
            _Failed: it has not taken any.
        """
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return await self._exchange(body)
        except TimeoutError:
            self._drop_connection()
            raise _Failed(f"no answer within {_TIMEOUT_SECONDS:g} s", 0) from None
        except (OSError, ConnectionBroken) as error:
            self._drop_connection()
            raise _Failed(f"no connection: {error}", 0) from None

    async def _exchange(self, body: bytes) -> int:
        connection = self._connection
        if connection is None or not connection.reusable or connection.has_unread_data():
            self._drop_connection()
            connection = self._connection = await Connection.open(
                self._host, self._port, tls=self._tls, server_name=self._host
            )
        connection.send(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await connection.head()
        status, retry_after = connection.status, connection.retry_after
        answer = b""
        while piece := await connection.read():
            answer += piece
            if len(answer) > _ANSWER_AT_MOST:
                self._drop_connection()
                break
        if status >= 300:
            again = float(retry_after) if retry_after.isdigit() else 0.0
            raise _Failed(f"HTTP status {status}", again if status in _BUSY else None)
        return self._rejected(answer)

    def _rejected(self, answer: bytes) -> int:
        try:
            part = orjson.loads(answer)["partialSuccess"]
            rejected = int(part.get("rejectedSpans") or 0)
        except (ValueError, KeyError, TypeError, AttributeError):  # none, or it is not JSON
            return 0
        if rejected > 0:
            self._report(f"spans were rejected: {str(part.get('errorMessage'))[:200]}")
        return max(rejected, 0)

    def _report(self, problem: str | None) -> None:
        """Logs when the collector's state changes."""
        if problem == self._problem:
            return
        if problem is not None:
            fields = {"collector": f"{self._host}:{self._port}", "reason": problem}
            log.warning("traces are not accepted", extra={"fields": fields})
        elif self._problem is not None:
            log.info("traces are accepted again")
        self._problem = problem

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
