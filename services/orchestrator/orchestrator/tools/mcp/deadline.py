"""The time limit of a call, which progress of the server puts off."""

from __future__ import annotations

import asyncio


class Deadline:
    """Cancels the task that created it when the time limit passes. The task must call `end`.

    `asyncio.timeout` does the same, but takes 6 µs of a call's 40 µs. This takes 2 µs.
    """

    __slots__ = ("_cancelling", "_loop", "_passed", "_seconds", "_task", "_timer", "_until")

    def __init__(self, seconds: float) -> None:
        self._loop = loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._seconds = seconds
        self._until = loop.time() + seconds
        self._passed = False
        self._timer = loop.call_later(seconds, self._check)

    def extend(self) -> None:
        """Starts the time limit again."""
        self._until = self._loop.time() + self._seconds

    def is_reason(self) -> bool:
        """Returns whether a cancellation that the task has got comes from this limit and from nobody else."""
        return self._passed and self._task.uncancel() <= self._cancelling

    def end(self) -> None:
        self._timer.cancel()

    def _check(self) -> None:
        left = self._until - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
        else:
            self._passed = True
            self._task.cancel()
