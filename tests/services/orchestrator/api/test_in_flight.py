"""The limit on requests in flight, and how the remaining ones are ended."""

from __future__ import annotations

import pytest

from orchestrator.api.in_flight import InFlight
from orchestrator.errors import ApiError, Overloaded
from orchestrator.memory import Budget


class Request:
    """A request that is in flight until it is ended."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self.reasons: list[str | int | None] = []

    def end(self, reason: ApiError) -> None:
        self.reasons.append(reason.code)
        self._in_flight.leave(self)


def test_requests_over_the_limit_are_rejected() -> None:
    in_flight = InFlight(1, Budget(1_000_000))
    in_flight.enter(Request(in_flight))
    with pytest.raises(Overloaded):
        in_flight.enter(Request(in_flight))
    assert len(in_flight) == 1


def test_unlimited_requests_are_always_admitted_and_not_counted() -> None:
    in_flight = InFlight(1, Budget(1_000_000))
    in_flight.enter(Request(in_flight), limited=False)
    in_flight.enter(Request(in_flight))
    in_flight.enter(Request(in_flight), limited=False)
    assert len(in_flight) == 3


def test_remaining_requests_are_ended_once() -> None:
    in_flight = InFlight(4, Budget(1_000_000))
    requests = [Request(in_flight) for _ in range(4)]
    for number, request in enumerate(requests):
        in_flight.enter(request, limited=number % 2 == 0)
    in_flight.leave(requests[0])
    in_flight.end_all()
    in_flight.end_all()
    assert [request.reasons for request in requests] == [[], *[["shutting_down"]] * 3]
    assert len(in_flight) == 0
