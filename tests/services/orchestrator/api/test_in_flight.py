"""The limit on requests in flight, and how the remaining ones are ended."""

from __future__ import annotations

import pytest

from orchestrator.api.in_flight import Bulkhead, InFlight
from orchestrator.errors import ApiError, ModelBusy, Overloaded
from orchestrator.memory import Budget, Share


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


def test_a_model_gets_at_most_three_times_what_is_free() -> None:
    budget = Budget(1000)
    in_flight = InFlight(8, budget)
    large, small = Bulkhead("large", in_flight), Bulkhead("small", in_flight)
    shares = []
    for _ in range(6):
        in_flight.enter(Request(in_flight))
        shares.append(Share(budget))
        large.enter(shares[-1])
    in_flight.enter(Request(in_flight))
    with pytest.raises(ModelBusy, match="large already has 6 requests in flight, and 1 more fit"):
        large.enter(Share(budget))
    small.enter(Share(budget))
    assert (len(large), len(small)) == (6, 1)
    for share in shares:
        large.leave(share)
    large.enter(Share(budget))


def test_a_model_s_requests_leave_memory_to_others() -> None:
    budget = Budget(1000)
    in_flight = InFlight(100, budget)
    large, small = Bulkhead("large", in_flight), Bulkhead("small", in_flight)
    share = Share(budget)
    large.enter(share)
    share.resize(760)
    with pytest.raises(ModelBusy, match="760 bytes in memory, and 240 are left"):
        large.enter(Share(budget))
    small.enter(Share(budget))
    share.resize(0)
    large.enter(Share(budget))
