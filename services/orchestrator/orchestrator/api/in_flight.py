"""Requests in flight: limits their number and ends them when the server stops."""

from __future__ import annotations

from typing import Protocol

from ..errors import ApiError, ModelBusy, Overloaded, ShuttingDown
from ..memory import Budget, Share

_HELD_PER_FREE = 3


class InFlightRequest(Protocol):
    """A request that can be ended from outside."""

    def end(self, reason: ApiError) -> None: ...


class InFlight:
    """Admits requests up to a limit and ends the remaining ones when the service stops.

    Attributes:
        budget: the memory that all requests may use together.
        draining: whether the server is about to stop, so that every answer closes its connection.
    """

    def __init__(self, limit: int, budget: Budget) -> None:
        self.budget = budget
        self._limit = limit
        self._limited: set[InFlightRequest] = set()
        self._others: set[InFlightRequest] = set()
        self.draining = False

    def __len__(self) -> int:
        return len(self._limited) + len(self._others)

    def enter(self, request: InFlightRequest, *, limited: bool = True, held: int = 0) -> None:
        """Admits a request.

        Args:
            limited: False for requests that are always admitted, such as health checks.
            held: requests that the same key has in flight, if there are other keys. At most three times as
                many as are free are admitted ("dynamic threshold", Choudhury and Hahne 1998): one busy key
                gets three quarters of the limit, two get three sevenths each, and there is always room left
                for others.

        Raises:
            Overloaded: the limit is reached.
        """
        if not limited:
            self._others.add(request)
            return
        if len(self._limited) >= self._limit:
            raise Overloaded(
                f"This server already serves its maximum of {self._limit} requests (MAX_IN_FLIGHT). "
                "Try again shortly.",
                headers={"retry-after": "1"},
            )
        free = self._limit - len(self._limited)
        if held >= _HELD_PER_FREE * free:
            raise Overloaded(
                f"This key already has {held} requests in flight, and {free} more fit (MAX_IN_FLIGHT), which "
                "are left to other keys. Try again shortly.",
                headers={"retry-after": "1"},
            )
        self._limited.add(request)

    @property
    def free(self) -> int:
        """How many more requests fit."""
        return max(0, self._limit - len(self._limited))

    def leave(self, request: InFlightRequest) -> None:
        self._limited.discard(request)
        self._others.discard(request)

    def end_all(self) -> None:
        """Ends every request with an error that the server is shutting down."""
        for request in [*self._limited, *self._others]:
            request.end(
                ShuttingDown(
                    "The server is shutting down, and the answer is not complete. Send the request again."
                )
            )


class Bulkhead:
    """The part of the server that the requests of one model use.

    As for keys, a model gets at most three times what is free, of requests and of memory, so that one whose
    engines hang leaves room for the others.
    """

    def __init__(self, model: str, in_flight: InFlight) -> None:
        self._model = model
        self._in_flight = in_flight
        self._shares: set[Share] = set()

    def __len__(self) -> int:
        return len(self._shares)

    def enter(self, share: Share) -> None:
        """Admits a request that has this share of the memory.

        Raises:
            ModelBusy: the rest of the server is left to other models.
        """
        free, budget = self._in_flight.free, self._in_flight.budget
        if len(self._shares) >= _HELD_PER_FREE * free:
            raise self._busy(f"{len(self._shares)} requests in flight, and {free} more fit (MAX_IN_FLIGHT)")
        if budget.half_full:
            held, left = sum(one.size for one in self._shares), budget.limit - budget.used
            if held >= _HELD_PER_FREE * left:
                raise self._busy(f"{held:,} bytes in memory, and {left:,} are left (MEMORY_BUDGET_BYTES)")
        self._shares.add(share)

    def leave(self, share: Share) -> None:
        self._shares.discard(share)

    def _busy(self, what: str) -> ModelBusy:
        return ModelBusy(
            f"The model {self._model} already has {what}, which is left to other models. Try again shortly.",
            headers={"retry-after": "2"},
        )
