"""Limits on tools: their time, their threads, and their exceptions."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest

from orchestrator.tools.toolbox import ToolContext, quick
from tests.services.orchestrator.tools.asking import Make, call, echo, error_of, thread_name, until


async def hang(context: ToolContext) -> None:
    """Never answer."""
    waiting[context.request_id].set()
    try:
        await asyncio.Event().wait()
    finally:
        waiting[context.request_id].clear()


waiting: dict[str, asyncio.Event] = {}


class Stuck:
    """A blocking tool that returns when it is released."""

    def __init__(self) -> None:
        self.started, self.released, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.cancelled = threading.Event()

    def block(self, context: ToolContext) -> str:
        """Block."""
        context.on_cancel(self.cancelled.set)
        self.started.set()
        self.released.wait(10)
        self.ended.set()
        return "late"


@pytest.fixture
def stuck() -> Stuck:
    return Stuck()


async def test_async_tool_is_cancelled_after_its_time_limit(make_toolbox: Make) -> None:
    waiting["r1"] = asyncio.Event()
    result = await call(make_toolbox(hang, timeout=0.02), "hang")
    assert result.outcome == "timeout"
    assert error_of(result) == "hang took longer than 0.02 s and was stopped"
    assert 0.02 <= result.seconds < 5
    assert not waiting["r1"].is_set()


async def test_async_tool_is_cancelled_with_its_caller(make_toolbox: Make) -> None:
    waiting["r2"] = asyncio.Event()
    task = asyncio.create_task(call(make_toolbox(hang), "hang", request_id="r2"))
    await waiting["r2"].wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not waiting["r2"].is_set()


async def test_tool_that_cancels_itself_does_not_affect_other_calls(make_toolbox: Make) -> None:
    async def brittle() -> None:
        """Wait for something that was cancelled."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    toolbox = make_toolbox(brittle, echo)
    failed, fine = await asyncio.gather(call(toolbox, "brittle"), call(toolbox, "echo", text="a"))
    assert (failed.outcome, error_of(failed)) == ("error", "brittle was cancelled by its own code")
    assert fine.content == "a"


async def test_blocking_tool_is_abandoned_after_its_time_limit(make_toolbox: Make, stuck: Stuck) -> None:
    toolbox = make_toolbox(stuck.block, thread_name, timeout=0.02, max_threads=1)
    result = await call(toolbox, "block")
    assert result.outcome == "timeout"
    await until(stuck.cancelled)
    assert not stuck.ended.is_set()
    assert toolbox.hung == 1
    assert (await call(toolbox, "thread_name")).outcome == "ok"
    stuck.released.set()
    await until(stuck.ended)


async def test_blocking_tool_is_abandoned_with_its_caller(make_toolbox: Make, stuck: Stuck) -> None:
    task = asyncio.create_task(call(make_toolbox(stuck.block), "block"))
    await until(stuck.started)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(stuck.cancelled)
    assert not stuck.ended.is_set()
    stuck.released.set()
    await until(stuck.ended)


async def test_callbacks_do_not_run_if_the_tool_ends_in_time(make_toolbox: Make, stuck: Stuck) -> None:
    stuck.released.set()
    assert (await call(make_toolbox(stuck.block), "block")).content == "late"
    assert not stuck.cancelled.is_set()


async def test_blocking_calls_are_rejected_at_once_if_all_threads_are_busy(make_toolbox: Make) -> None:
    go = threading.Event()

    def block() -> bool:
        """Block."""
        return go.wait(5)

    toolbox = make_toolbox(block, echo, max_threads=3)
    calls = [asyncio.create_task(call(toolbox, "block", f"r{number}")) for number in range(5)]
    done, running = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result().outcome for task in done} == {"busy"}
    assert (await call(toolbox, "echo", text="still here")).outcome == "ok"
    go.set()
    outcomes = [task.result().outcome for task in (await asyncio.wait(running))[0] | done]
    assert sorted(outcomes) == ["busy"] * 2 + ["ok"] * 3


async def test_one_request_uses_a_quarter_of_the_threads_and_its_other_calls_wait(
    make_toolbox: Make,
) -> None:
    go, running, most = threading.Event(), 0, 0
    lock = threading.Lock()

    def block() -> bool:
        """Block."""
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        ended = go.wait(10)
        with lock:
            running -= 1
        return ended

    toolbox = make_toolbox(block, thread_name, max_threads=8)
    calls = [asyncio.create_task(call(toolbox, "block", "greedy")) for _ in range(40)]
    async with asyncio.timeout(5):
        while running < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    for number in range(20):
        assert (await call(toolbox, "thread_name", f"r{number}")).outcome == "ok"
    go.set()
    assert [(await one).outcome for one in calls] == ["ok"] * 40
    assert most == 2
    assert toolbox._runner._requests == {}


async def test_hung_calls_of_one_request_do_not_stop_the_others(make_toolbox: Make) -> None:
    go = threading.Event()

    def hang_up() -> None:
        """Hang."""
        go.wait(10)

    toolbox = make_toolbox(hang_up, thread_name, max_threads=4, timeout=0.02)
    results = await asyncio.gather(*(call(toolbox, "hang_up", "greedy") for _ in range(12)))
    assert {result.outcome for result in results} == {"timeout"}
    assert toolbox.hung == 12
    assert (await call(toolbox, "thread_name")).outcome == "ok"
    go.set()


class Odd(BaseException):
    """Neither an error nor an exit."""


ENDS = [
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    Odd("odd"),
    asyncio.CancelledError(),
    StopAsyncIteration(),
]


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
async def test_no_exception_of_a_tool_reaches_beyond_its_call(
    make_toolbox: Make, error: BaseException
) -> None:
    async def raise_at_once() -> None:
        """Raise."""
        raise error

    async def raise_later() -> None:
        """Raise."""
        await asyncio.sleep(0)
        raise error

    def raise_in_thread() -> None:
        """Raise."""
        raise error

    @quick
    def raise_in_loop() -> None:
        """Raise."""
        raise error

    toolbox = make_toolbox(raise_at_once, raise_later, raise_in_thread, raise_in_loop, echo)
    names = sorted(toolbox.names - {"echo"})
    *failed, fine = await asyncio.gather(
        *(call(toolbox, name) for name in names), call(toolbox, "echo", text="a")
    )
    assert [result.outcome for result in failed] == ["error"] * 4
    assert fine.content == "a"


async def test_result_that_raises_when_it_is_rendered_is_an_error(make_toolbox: Make) -> None:
    class Result(dict):  # type: ignore[type-arg]
        def items(self) -> Any:
            raise Odd

        __iter__ = items

    async def odd_result() -> Any:
        """Return it."""
        return [Result(a=1), object()]

    assert (await call(make_toolbox(odd_result), "odd_result")).outcome == "error"


async def test_tool_that_swallows_its_cancellation_keeps_its_time_limit(make_toolbox: Make) -> None:
    go = asyncio.Event()

    async def stubborn() -> None:
        """Go on."""
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()

    toolbox = make_toolbox(stubborn, echo, timeout=0.02)
    result = await call(toolbox, "stubborn")
    assert (result.outcome, toolbox.hung) == ("timeout", 1)
    assert result.seconds < 5
    waiting = asyncio.create_task(call(toolbox, "stubborn", "r2"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, 5)
    assert toolbox.hung == 2
    assert (await call(toolbox, "echo", text="a")).content == "a"
    go.set()
    async with asyncio.timeout(5):
        while toolbox.hung:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_closed_toolbox_rejects_blocking_calls(make_toolbox: Make) -> None:
    toolbox = make_toolbox(thread_name, echo)
    assert (await call(toolbox, "thread_name")).outcome == "ok"
    await toolbox.aclose()
    assert (await call(toolbox, "thread_name")).outcome == "busy"
