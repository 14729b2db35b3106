"""What a key may still spend in the current minute or day."""

from __future__ import annotations

from collections.abc import Sized
from typing import Protocol

MINUTE, DAY = 60, 86_400
_SLICES = 20


class Leased(Protocol):
    """What a lease has brought: units that this process has now, that others have, and do not spend."""

    @property
    def granted(self) -> int: ...
    @property
    def others(self) -> int: ...
    @property
    def unspent(self) -> Sized: ...


class Allowance:
    """The units, requests or tokens, that one key may spend per window of time.

    A process that is alone has the whole limit. One that shares the limit with others leases slices of it
    (`sync`), which is what `granted` counts then.

    Attributes:
        limit: units per window.
        seconds: length of a window. Windows start at multiples of it in UTC.
        window: number of the current window, which lasts from `begins` until `ends`.
        spent, reserved: units that requests have used, and that requests in flight may still use.
        awaited: units that requests wait for.
        granted: units that this process may spend in the window.
        others: units that other processes had taken when the limit was last leased.
        reported: the part of `spent` that other processes know of.
        denied: whether a request was rejected since the last lease.
        exhausted: whether the last lease got less than it asked for.
        settled: whether all units that are taken were also spent, so that none will be returned.
        slice: units that are leased in advance, and that may be spent before the first lease is there.
    """

    __slots__ = (
        "awaited", "begins", "denied", "ends", "exhausted", "granted", "limit", "others", "reported",
        "reserved", "seconds", "settled", "shared", "slice", "spent", "window",
    )  # fmt: skip

    def __init__(self, limit: int, seconds: int, *, shared: bool) -> None:
        self.limit, self.slice = limit, _slice_of(limit)
        self.seconds = seconds
        self.shared = shared
        self.window = -1
        self.reserved = self.awaited = 0
        self._begin(-1)

    def roll(self, now: float) -> None:
        """Begins a new window if the current one is over."""
        if not self.begins <= now < self.ends:
            self._begin(int(now) // self.seconds)

    def _begin(self, window: int) -> None:
        self.window = window
        self.begins = float(window * self.seconds)
        self.ends = self.begins + self.seconds
        self.spent = self.others = self.reported = 0
        self.granted = 0 if self.shared else self.limit
        self.exhausted = self.settled = not self.shared
        self.denied = False

    def change(self, limit: int) -> None:
        """Sets another limit, which applies at once."""
        if limit != self.limit:
            self.limit, self.slice = limit, _slice_of(limit)
            if self.shared:
                self.exhausted = False
            else:
                self.granted = limit

    def room(self, now: float) -> int:
        """Returns the units that may be spent or reserved now."""
        if not self.begins <= now < self.ends:
            self.roll(now)
        left = self.granted - self.spent - self.reserved
        return left if self.exhausted else left + self.slice

    @property
    def lacks(self) -> int:
        """The units to lease, so that one slice is there in advance. Negative: units to return."""
        return self.spent + self.reserved + self.awaited + self.slice - self.granted

    def remaining(self) -> int:
        """Returns the units that are left for the key, as far as this process knows."""
        left = self.limit - self.others - self.spent - self.reserved
        return left if left > 0 else 0

    def asks(self, *, returning: bool) -> bool:
        """Returns whether to change the lease, or to report what was spent.

        Args:
            returning: whether to return all that was not spent, because the process stops.
        """
        if returning:
            return self.granted != self.spent or self.reported != self.spent
        if self.seconds == DAY and self.reported != self.spent:
            return True
        used = self.spent + self.reserved + self.awaited
        return (self.lacks > 0 and (used > 0 or self.denied)) or self.lacks < -self.slice

    def take(self, lease: Leased, *, wanted: int, spent: int) -> None:
        """Takes what a lease has brought.

        Args:
            wanted: units that the process wanted to have.
            spent: the units that were reported with the lease.
        """
        self.granted, self.others, self.reported = lease.granted, lease.others, spent
        self.exhausted = lease.granted < wanted
        self.settled = not lease.unspent
        self.denied = False

    def resets_in(self, now: float) -> float:
        """The seconds until the next window."""
        return self.ends - now


def _slice_of(limit: int) -> int:
    return max(1, limit // _SLICES)
