"""Threads for blocking tools: limited in number, reused, and never joined at exit."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class NoFreeThread(Exception):
    """All threads are busy, some of them perhaps with abandoned work."""


class WorkerThreads:
    """Runs work in at most `limit` daemon threads, and rejects further work instead of queueing it.

    A `ThreadPoolExecutor` would queue it, and would wait for abandoned work when the process exits.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._closed = False
        self._busy = 0
        self._started = 0
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    async def run(self, function: Callable[[], T]) -> T:
        """Call `function` in a thread with the caller's context variables.

        If the caller is cancelled, the thread is abandoned, and stays busy until the function returns.

        Raises:
            NoFreeThread: all threads are busy.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        outcome: list[T] = []
        failure: list[BaseException] = []
        context = contextvars.copy_context()

        def job() -> None:
            try:
                outcome.append(context.run(function))
            except BaseException as error:  # noqa: BLE001  re-raised in the caller
                failure.append(error)
            self._release()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_finish, ended)

        self._acquire()
        self._jobs.put(job)
        await ended
        if failure:
            raise failure.pop()
        return outcome.pop()

    def close(self) -> None:
        """Stop idle threads now and busy ones when their work ends. No further work is accepted."""
        with self._lock:
            self._closed = True
            for _ in range(self._started):
                self._jobs.put(None)

    def _acquire(self) -> None:
        with self._lock:
            if self._closed or self._busy >= self.limit:
                raise NoFreeThread
            if self._busy == self._started:
                threading.Thread(target=self._work, name=f"tool-{self._started}", daemon=True).start()
                self._started += 1
            self._busy += 1

    def _release(self) -> None:
        with self._lock:
            self._busy -= 1

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # otherwise an idle thread would keep the arguments and result of its last call alive


def _finish(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
