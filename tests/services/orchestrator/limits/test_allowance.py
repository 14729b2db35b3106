"""Windows, and what is left in them, alone and with leases."""

from __future__ import annotations

from orchestrator.limits.allowance import MINUTE, Allowance


def begun(limit: int, *, shared: bool, now: float = 0.0) -> Allowance:
    allowance = Allowance(limit, MINUTE, shared=shared)
    allowance.roll(now)
    return allowance


def test_process_that_is_alone_has_the_whole_limit() -> None:
    allowance = begun(10, shared=False)
    allowance.spent, allowance.reserved = 3, 2
    assert (allowance.room(0.0), allowance.remaining()) == (5, 5)


def test_next_window_keeps_only_reservations() -> None:
    allowance = begun(10, shared=False, now=59.9)
    allowance.spent, allowance.reserved = 8, 2
    assert allowance.room(59.9) == 0
    allowance.roll(60.0)
    assert (allowance.spent, allowance.room(60.0)) == (0, 8)
    assert allowance.resets_in(75.0) == 45.0


def test_process_that_shares_has_one_slice_until_its_first_lease() -> None:
    allowance = begun(100, shared=True)
    assert (allowance.slice, allowance.room(0.0), allowance.lacks) == (5, 5, 5)
    allowance.granted = 10
    allowance.spent = 4
    assert (allowance.room(0.0), allowance.lacks) == (11, -1)
    allowance.exhausted = True
    assert allowance.room(0.0) == 6


def test_small_limit_has_slices_of_one() -> None:
    assert begun(3, shared=True).slice == 1


def test_changed_limit_applies_at_once() -> None:
    alone, sharing = begun(10, shared=False), begun(10, shared=True)
    alone.spent = 8
    alone.change(5)
    assert (alone.room(0.0), alone.remaining()) == (-3, 0)
    sharing.exhausted = True
    sharing.change(20)
    assert not sharing.exhausted
