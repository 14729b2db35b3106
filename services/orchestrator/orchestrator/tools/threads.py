"""Threads for blocking tools: limited in number, reused, replaced if they hang, and never joined at exit."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")

_HUNG_PER_THREAD = 8


class NoFreeThread(Exception):
    """All threads are busy, or too many of them hang."""


class _Job:
    """A piece of work, and what became of it. The threads' lock protects it."""

    __slots__ = ("abandoned", "done", "run")

    def __init__(self, run: Callable[[], None]) -> None:
        self.run: Callable[[], None] | None = run
        self.done = False
        self.abandoned = False


class WorkerThreads:
    """Runs work in at most `limit` daemon threads, and rejects further work instead of queueing it.

    A thread whose caller no longer waits hangs: it does not count towards the limit, and ends with its work.
    At most eight times as many threads may hang. A `ThreadPoolExecutor` would queue work behind them, and
    would wait for them when the process exits.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._closed = False
        self._busy = 0
        self._hung = 0
        self._started = 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

    @property
    def hung(self) -> int:
        """The number of threads that are still busy although nobody waits for them."""
        return self._hung

    async def run(self, function: Callable[[], T]) -> T:
        """Call `function` in a thread with the caller's context variables.

        If the caller is cancelled, the thread is abandoned, and another one may take its place.

        Raises:
            NoFreeThread: all threads are busy, or too many hang.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        outcome: list[T] = []
        failure: list[BaseException] = []
        context = contextvars.copy_context()

        def work() -> None:
            try:
                outcome.append(context.run(function))
            except BaseException as error:  # noqa: BLE001  re-raised in the caller
                failure.append(error)
            self._release(job)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_finish, ended)

        job = _Job(work)
        self._acquire()
        self._jobs.put(job)
        try:
            await ended
        except BaseException:
            self._abandon(job)
            raise
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
            if self._closed or self._busy >= self.limit or self._hung >= _HUNG_PER_THREAD * self.limit:
                raise NoFreeThread
            if self._busy == self._started - self._hung:
                threading.Thread(target=self._work, name=f"tool-{self._started}", daemon=True).start()
                self._started += 1
            self._busy += 1

    def _abandon(self, job: _Job) -> None:
        with self._lock:
            if not job.done:
                job.abandoned = True
                self._busy -= 1
                self._hung += 1

    def _release(self, job: _Job) -> None:
        with self._lock:
            job.done = True
            if job.abandoned:
                self._hung -= 1
                self._started -= 1
            else:
                self._busy -= 1

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            run, job.run = job.run, None  # the work refers to its job
            assert run
            run()
            del run
            if job.abandoned:
                return  # another thread has taken its place
            del job  # otherwise an idle thread would keep the arguments and result of its last call alive


def _finish(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
