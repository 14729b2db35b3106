"""The requests under way: how many may be, and how they are ended from outside."""

from __future__ import annotations

import asyncio

from ..errors import ApiError, Overloaded, ShuttingDown


class ClientGone(Exception):
    """The client closed its connection before it had its answer."""


class Slot:
    """One request under way; whoever ends it leaves the reason here and cancels its task."""

    __slots__ = ("_task", "reason")

    def __init__(self, task: asyncio.Task[object]) -> None:
        self._task: asyncio.Task[object] | None = task
        self.reason: ApiError | ClientGone | None = None

    def end(self, reason: ApiError | ClientGone) -> None:
        if self._task is not None and self.reason is None:
            self.reason = reason
            self._task.cancel()

    def leave(self) -> None:
        self._task = None


class InFlight:
    """Admits requests up to a limit, and ends what remains when the service stops."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._slots: set[Slot] = set()
        self.draining = False

    def __len__(self) -> int:
        return len(self._slots)

    def enter(self, task: asyncio.Task[object]) -> Slot:
        """Raises:
        Overloaded: the limit is reached.
        """
        if len(self._slots) >= self._limit:
            raise Overloaded(
                f"{self._limit} requests are under way, the limit of this server (MAX_IN_FLIGHT). "
                "Try again shortly.",
                headers={"retry-after": "1"},
            )
        slot = Slot(task)
        self._slots.add(slot)
        return slot

    def leave(self, slot: Slot) -> None:
        slot.leave()
        self._slots.discard(slot)

    def end_all(self) -> None:
        """Ends every request with an error that says that the server stops."""
        for slot in list(self._slots):
            slot.end(ShuttingDown("The server is shutting down; the answer is not complete. Send it again."))
