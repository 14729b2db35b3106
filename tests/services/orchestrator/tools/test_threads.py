from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
import weakref
from collections.abc import AsyncIterator

import pytest

from orchestrator.tools.threads import NoFreeThread, WorkerThreads

request = contextvars.ContextVar("request", default="none")


@pytest.fixture
async def two() -> AsyncIterator[WorkerThreads]:
    threads = WorkerThreads(2)
    yield threads
    threads.close()


async def both_at_once(threads: WorkerThreads) -> set[object]:
    """Returns the threads in which two pieces of work run, without those that were rejected."""
    meet = threading.Barrier(2)

    def work() -> object:
        with contextlib.suppress(threading.BrokenBarrierError):
            meet.wait(0.1)
        return threading.current_thread()

    results = await asyncio.gather(*(threads.run(work) for _ in range(2)), return_exceptions=True)
    return {result for result in results if not isinstance(result, NoFreeThread)}


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 5)


async def test_work_runs_in_a_reused_daemon_thread(two: WorkerThreads) -> None:
    first = await two.run(threading.current_thread)
    assert first is not threading.current_thread()
    assert first.daemon
    assert {await two.run(threading.current_thread) for _ in range(50)} == {first}


async def test_idle_thread_does_not_keep_its_last_work_alive(two: WorkerThreads) -> None:
    class Argument:
        pass

    argument, gone = Argument(), threading.Event()
    weakref.finalize(argument, gone.set)
    await two.run(functools.partial(id, argument))
    del argument
    await until(gone)


async def test_context_variables_are_passed_to_the_thread(two: WorkerThreads) -> None:
    request.set("r1")
    assert await two.run(request.get) == "r1"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
async def test_exceptions_are_raised_in_the_caller(two: WorkerThreads, error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await two.run(fail)
    assert caught.value is error
    assert await two.run(lambda: 1) == 1


async def test_work_beyond_the_limit_is_rejected_at_once(two: WorkerThreads) -> None:
    go = threading.Event()
    running = [asyncio.create_task(two.run(go.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(NoFreeThread):
        await two.run(lambda: None)
    go.set()
    assert await asyncio.gather(*running) == [True, True]
    assert await two.run(lambda: 1) == 1


async def test_abandoned_thread_is_replaced_and_counted_until_its_work_ends(two: WorkerThreads) -> None:
    go = threading.Event()
    for number in range(1, 5):
        started = threading.Event()

        def stuck(started: threading.Event = started) -> None:
            started.set()
            go.wait(10)

        waiting = asyncio.create_task(two.run(stuck))
        await until(started)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert two.hung == number
        async with asyncio.timeout(5):
            while len(await both_at_once(two)) < 2:
                pass
    go.set()
    async with asyncio.timeout(5):
        while two.hung:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert await two.run(lambda: 1) == 1
    assert two._started == 2


async def test_number_of_hung_threads_is_bounded() -> None:
    threads, go = WorkerThreads(1), threading.Event()
    for _ in range(8):
        waiting = asyncio.create_task(threads.run(go.wait))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert threads.hung == 8
    with pytest.raises(NoFreeThread):
        await threads.run(lambda: None)
    go.set()
    threads.close()


def test_work_may_end_after_the_event_loop_was_closed() -> None:
    threads = WorkerThreads(1)
    started, go = threading.Event(), threading.Event()
    left: list[threading.Thread] = []

    def stuck() -> None:
        left.append(threading.current_thread())
        started.set()
        go.wait(5)

    async def abandon() -> None:
        waiting = asyncio.create_task(threads.run(stuck))
        await until(started)
        waiting.cancel()

    asyncio.run(abandon())
    go.set()
    threads.close()
    left[0].join(5)
    assert not left[0].is_alive()


async def test_closed_threads_stop_and_accept_no_more_work() -> None:
    threads = WorkerThreads(2)
    thread = await threads.run(threading.current_thread)
    threads.close()
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()
    with pytest.raises(NoFreeThread):
        await threads.run(lambda: None)
