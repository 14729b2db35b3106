"""Deadlines: one timer for all requests, whatever the order in which theirs come."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.in_flight import InFlight
from orchestrator.errors import ApiError, Overloaded


class Request:
    """Under way until its deadline."""

    def __init__(self, in_flight: InFlight, seconds: float) -> None:
        self._in_flight = in_flight
        self.loop = asyncio.get_running_loop()
        self.deadline = self.loop.time() + seconds
        self.ended = asyncio.Event()
        self.ended_at = 0.0

    def end(self, reason: ApiError) -> None:
        raise AssertionError(reason)

    def end_late(self) -> None:
        self.ended_at = self.loop.time()
        self.ended.set()
        self._in_flight.leave(self)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([0.005, 0.01, 0.02, 0.03, 60]), min_size=1, max_size=12))
async def test_each_ends_at_its_deadline_and_not_before(seconds: list[float]) -> None:
    in_flight = InFlight(100)
    requests = [Request(in_flight, one) for one in seconds]
    for request in requests:
        in_flight.enter(request)
    due = [request for request, one in zip(requests, seconds, strict=True) if one < 60]
    async with asyncio.timeout(10):
        await asyncio.gather(*[request.ended.wait() for request in due])
    assert all(request.ended_at >= request.deadline - 0.002 for request in due)
    assert len(in_flight) == len(requests) - len(due)


async def test_a_deadline_that_moved_on_holds() -> None:
    in_flight = InFlight(100)
    moving, other = Request(in_flight, 0.01), Request(in_flight, 0.02)
    in_flight.enter(moving)
    in_flight.enter(other)
    moving.deadline += 0.03
    async with asyncio.timeout(10):
        await moving.ended.wait()
    assert moving.ended_at >= moving.deadline - 0.002
    assert other.ended_at < moving.ended_at


async def test_one_that_left_is_not_ended() -> None:
    in_flight = InFlight(100)
    gone, stays = Request(in_flight, 0.005), Request(in_flight, 0.01)
    in_flight.enter(gone)
    in_flight.enter(stays)
    in_flight.leave(gone)
    async with asyncio.timeout(10):
        await stays.ended.wait()
    assert not gone.ended.is_set()


async def test_one_that_ends_slowly_is_told_once() -> None:
    class Slow(Request):
        told = 0

        def end_late(self) -> None:
            self.told += 1

    in_flight = InFlight(100)
    slow, later = Slow(in_flight, 0.005), Request(in_flight, 0.02)
    in_flight.enter(slow)
    in_flight.enter(later)
    async with asyncio.timeout(10):
        await later.ended.wait()
    assert slow.told == 2  # each time the timer is due, not without end
    assert len(in_flight) == 1


async def test_more_than_the_limit_are_refused() -> None:
    in_flight = InFlight(1)
    in_flight.enter(Request(in_flight, 60))
    with pytest.raises(Overloaded):
        in_flight.enter(Request(in_flight, 60))
    assert len(in_flight) == 1
