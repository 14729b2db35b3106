"""Runs tools so that an exit, a hang or a swallowed cancellation affects only the tool's own call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from .threads import WorkerThreads

log = logging.getLogger("orchestrator.tools")

_STOP_SECONDS = 0.1
"""How long a cancelled tool may take to clean up before its call ends without it."""


class CallTimeout(Exception):
    """The tool took too long."""


class CallCancelled(Exception):
    """The tool was cancelled by its own code."""


class CallFailed(Exception):
    """The tool raised `error`, which may be any exception, even one that would end the process."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Runner:
    """Runs the calls of tools.

    Args:
        max_threads: the number of threads for blocking tools. One request uses at most a quarter of them, and
            its further calls wait for these.
        seconds: time limit for a call.
    """

    def __init__(self, max_threads: int, seconds: float) -> None:
        self._threads = WorkerThreads(max_threads)
        self._share = max(1, max_threads // 4)
        self._seconds = seconds
        self._requests: dict[str, tuple[asyncio.Semaphore, list[None]]] = {}
        self._stuck: set[asyncio.Task[Any]] = set()

    @property
    def hung(self) -> int:
        """The number of calls that go on although nobody waits for them."""
        return self._threads.hung + len(self._stuck)

    def close(self) -> None:
        self._threads.close()
        for task in self._stuck:
            task.cancel()

    async def blocking(self, function: Callable[[], Any], request_id: str) -> Any:
        """Runs a function in a thread.

        Raises:
            NoFreeThread, CallTimeout, CallFailed: see there.
        """
        semaphore, users = self._requests.setdefault(request_id, (asyncio.Semaphore(self._share), []))
        users.append(None)
        try:
            async with semaphore:
                return await self.waiting(lambda: self._threads.run(function))
        finally:
            users.pop()
            if not users:
                del self._requests[request_id]

    async def waiting(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Runs a coroutine function in a task of its own, which is cancelled with the caller.

        Raises:
            CallTimeout, CallCancelled, CallFailed: see there.
        """
        task = asyncio.create_task(_outcome(function))
        cancelled: asyncio.CancelledError | None = None
        try:
            await asyncio.sleep(0)
            if not task.done():  # as it is for tools that have the answer in memory
                await self._end_of(task)
        except asyncio.CancelledError as cancellation:
            cancelled = cancellation
        if cancelled is not None or not task.done():
            await self._stop(task)
            raise cancelled or CallTimeout
        if task.cancelled():
            raise CallCancelled
        result, error = task.result()
        if error is not None:
            raise CallFailed(error)
        return result

    async def _end_of(self, task: asyncio.Task[Any]) -> None:
        """Waits until the task ends, or takes too long."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        task.add_done_callback(lambda _: _end(ended))
        timer = loop.call_later(self._seconds, _end, ended)
        try:
            await ended
        finally:
            timer.cancel()

    async def _stop(self, task: asyncio.Task[Any]) -> None:
        """Cancels a task, and leaves it alone if it does not end soon."""
        task.cancel()
        try:
            await asyncio.wait([task], timeout=_STOP_SECONDS)
        finally:
            if not task.done():
                log.error("a tool ignores that it was cancelled, so its call ended without it")
                self._stuck.add(task)
                task.add_done_callback(self._stuck.discard)


async def _outcome(function: Callable[[], Awaitable[Any]]) -> tuple[Any, BaseException | None]:
    """Returns the result or the exception: an exit that a task raises would end the event loop."""
    try:
        return await function(), None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001  the caller decides
        return None, error


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
