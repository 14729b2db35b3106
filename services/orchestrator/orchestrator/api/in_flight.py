"""The requests under way: how many may be, until when, and how they are ended from outside."""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

from ..errors import ApiError, Overloaded, ShuttingDown


class InFlightRequest(Protocol):
    """A request that can be ended from outside. Its `deadline` is in the event loop's time and may move."""

    @property
    def deadline(self) -> float: ...

    def end(self, reason: ApiError) -> None: ...

    def end_late(self) -> None: ...


class InFlight:
    """Admits requests up to a limit, and ends those that are late and what remains when the service stops.

    One timer serves all of them, set for the earliest deadline that it has seen: one for each request would
    cost 3 µs.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._requests: set[InFlightRequest] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self.draining = False

    def __len__(self) -> int:
        return len(self._requests)

    def enter(self, request: InFlightRequest) -> None:
        """Raises:
        Overloaded: the limit is reached.
        """
        if len(self._requests) >= self._limit:
            raise Overloaded(
                f"{self._limit} requests are under way, the limit of this server (MAX_IN_FLIGHT). "
                "Try again shortly.",
                headers={"retry-after": "1"},
            )
        self._requests.add(request)
        if request.deadline < self._timer_at:
            self._set_timer(request.deadline)

    def leave(self, request: InFlightRequest) -> None:
        self._requests.discard(request)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_at(at, self._end_late)

    def _end_late(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now = asyncio.get_running_loop().time() + 0.001
        for request in list(self._requests):
            if request.deadline <= now:
                request.end_late()
        left = [request.deadline for request in self._requests if request.deadline > now]
        if left:
            self._set_timer(min(left))

    def end_all(self) -> None:
        """Ends every request with an error that says that the server stops."""
        for request in list(self._requests):
            request.end(
                ShuttingDown("The server is shutting down; the answer is not complete. Send it again.")
            )
