"""The open connections: enforces their time limits and ends them when the server stops."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol

from ..settings import Settings

_RELIEF_CONNECTIONS = 64
_RELIEF_IDLE_SECONDS = 1.0


class Connection(Protocol):
    """The interface of a connection. Deadlines use the event loop's clock and may change at any time."""

    deadline: float
    transport: asyncio.Transport
    unread_deadline: float

    @property
    def idle_since(self) -> float: ...

    @property
    def is_idle(self) -> bool: ...

    def close_if_idle(self) -> bool: ...

    def expire(self, now: float) -> None: ...

    def close_if_idle_in(self, seconds: float) -> None: ...

    def abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits for the phases of a connection."""

    head_seconds: float
    body_seconds: float
    request_seconds: float
    idle_seconds: float
    unread_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(
            head_seconds=settings.head_timeout_seconds,
            body_seconds=min(settings.body_timeout_seconds, settings.request_timeout_seconds),
            request_seconds=settings.request_timeout_seconds,
            idle_seconds=settings.keep_alive_seconds,
            unread_seconds=settings.unread_timeout_seconds,
        )


class Connections:
    """Checks every connection at regular intervals. A timer per connection would cost 3 µs per request.

    Attributes:
        idle_seconds: how long a connection may wait for its next request.
        general_headers: the header lines of every answer.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.idle_seconds = limits.idle_seconds
        self.general_headers = b""
        self._open: set[Connection] = set()
        self._none_open = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        shortest = min(
            limits.head_seconds, limits.body_seconds, limits.request_seconds, limits.idle_seconds,
            limits.unread_seconds,
        )  # fmt: skip
        self._interval = min(1.0, shortest / 4)

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._open))

    def start(self) -> None:
        """Starts to enforce deadlines."""
        self._none_open.set()
        self._sweep()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def add(self, connection: Connection) -> None:
        self._open.add(connection)
        self._none_open.clear()

    def discard(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._none_open.set()

    def close_idle(self, seconds: float) -> None:
        """Limits the time that a connection may wait for its next request from now on."""
        self.idle_seconds = min(self.idle_seconds, seconds)
        self._interval = min(self._interval, max(seconds / 4, 0.01))
        for connection in self:
            connection.close_if_idle_in(seconds)
        self._sweep()

    def relieve(self) -> int:
        """Closes the connections that have been idle for longest, since there are no files for new ones.

        Returns the number of closed connections. Those that a client has just opened or used stay open.
        """
        before = asyncio.get_running_loop().time() - _RELIEF_IDLE_SECONDS
        idle = [one for one in self._open if one.is_idle and one.idle_since <= before]
        longest = heapq.nsmallest(_RELIEF_CONNECTIONS, idle, key=lambda one: one.idle_since)
        return sum(one.close_if_idle() for one in longest)

    def abort_all(self) -> None:
        for connection in self:
            connection.abort()

    async def none_open(self) -> None:
        """Waits until the last connection has ended."""
        await self._none_open.wait()

    def _sweep(self) -> None:
        self.close()
        loop = asyncio.get_running_loop()
        self.general_headers = b"date: %b\r\n" % formatdate(time.time(), usegmt=True).encode()
        now = loop.time()
        due = [one for one in self._open if one.deadline <= now or one.unread_deadline <= now]
        for connection in due:
            connection.expire(now)
        self._timer = loop.call_later(self._interval, self._sweep)
