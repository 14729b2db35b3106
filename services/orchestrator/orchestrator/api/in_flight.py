"""The requests under way: how many may be, and how they are ended from outside."""

from __future__ import annotations

from typing import Protocol

from ..errors import ApiError, Overloaded, ShuttingDown


class Ended(Protocol):
    """Something under way that can be told to end."""

    def end(self, reason: ApiError) -> None: ...


class InFlight:
    """Admits requests up to a limit, and ends what remains when the service stops."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._requests: set[Ended] = set()
        self.draining = False

    def __len__(self) -> int:
        return len(self._requests)

    def enter(self, request: Ended) -> None:
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

    def leave(self, request: Ended) -> None:
        self._requests.discard(request)

    def end_all(self) -> None:
        """Ends every request with an error that says that the server stops."""
        for request in list(self._requests):
            request.end(
                ShuttingDown("The server is shutting down; the answer is not complete. Send it again.")
            )
