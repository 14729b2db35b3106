"""The set of open connections: deadlines, idle connections and the end of the last one."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

from orchestrator.api.connections import Connections, Limits
from orchestrator.settings import Settings
from tests.support.live import until

LIMITS = Limits(head_seconds=1, body_seconds=1, request_seconds=1, idle_seconds=1, unread_seconds=0.04)


class Connection:
    """A connection that leaves the set when it expires or is aborted."""

    transport: Any = None

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.deadline = self.unread_deadline = math.inf
        self.idle_limit = math.inf
        self.idle_since = 0.0
        self.is_idle = True
        self.expired = self.aborted = False
        connections.add(self)

    def expire(self, now: float) -> None:
        assert min(self.deadline, self.unread_deadline) <= now
        self.expired = True
        self.connections.discard(self)

    def close_if_idle(self) -> bool:
        self.abort()
        return True

    def close_if_idle_in(self, seconds: float) -> None:
        self.idle_limit = seconds

    def abort(self) -> None:
        self.aborted = True
        self.connections.discard(self)


@contextlib.contextmanager
def watched() -> Iterator[Connections]:
    connections = Connections(LIMITS)
    connections.start()
    try:
        yield connections
    finally:
        connections.close()


async def test_only_connections_past_a_deadline_expire() -> None:
    with watched() as connections:
        late, unread, other = (Connection(connections) for _ in range(3))
        now = asyncio.get_running_loop().time()
        late.deadline = now + 0.02
        unread.unread_deadline = now + 0.02
        await until(lambda: late.expired and unread.expired)
        assert not other.expired
        assert list(connections) == [other]
        assert len(connections) == 1


async def test_deadline_that_moves_is_respected() -> None:
    with watched() as connections:
        first, moved = Connection(connections), Connection(connections)
        now = asyncio.get_running_loop().time()
        first.deadline = moved.deadline = now + 0.02
        moved.deadline = now + 60
        await until(lambda: first.expired)
        assert not moved.expired


async def test_idle_time_can_only_become_shorter() -> None:
    with watched() as connections:
        connection = Connection(connections)
        connections.close_idle(0.5)
        assert (connections.idle_seconds, connection.idle_limit) == (0.5, 0.5)
        connections.close_idle(5)
        assert connections.idle_seconds == 0.5


async def test_end_of_the_last_connection_can_be_awaited() -> None:
    with watched() as connections:
        await asyncio.wait_for(connections.none_open(), 5)
        both = [Connection(connections) for _ in range(2)]
        waiting = asyncio.create_task(connections.none_open())
        connections.discard(both[0])
        await asyncio.sleep(0)
        assert not waiting.done()
        connections.abort_all()
        await asyncio.wait_for(waiting, 5)
        assert [connection.aborted for connection in both] == [False, True]


async def test_date_header_is_kept_for_all_answers() -> None:
    with watched() as connections:
        name, _, value = connections.general_headers.decode().partition(": ")
        assert name == "date"
        assert parsedate_to_datetime(value.strip()).year >= 2025


def test_body_limit_never_exceeds_the_request_limit() -> None:
    settings = Settings.from_environment(
        {"BODY_TIMEOUT_SECONDS": "30", "REQUEST_TIMEOUT_SECONDS": "20", "HEAD_TIMEOUT_SECONDS": "7"}
    )
    limits = Limits.of(settings)
    assert (limits.head_seconds, limits.body_seconds, limits.request_seconds) == (7, 20, 20)


async def test_relief_closes_only_the_connections_that_have_been_idle_for_longest() -> None:
    with watched() as connections:
        now = asyncio.get_running_loop().time()
        old = [Connection(connections) for _ in range(100)]
        for age, connection in enumerate(old):
            connection.idle_since = now - 10 - age
        busy, new = Connection(connections), Connection(connections)
        busy.is_idle, busy.idle_since = False, now - 1000
        new.idle_since = now
        assert connections.relieve() == 64
        assert [one.aborted for one in old] == [False] * 36 + [True] * 64
        assert not busy.aborted
        assert not new.aborted
