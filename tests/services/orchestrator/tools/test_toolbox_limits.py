"""Limits on tools: their time, their threads, and their exceptions."""

from __future__ import annotations

import asyncio
import threading

import pytest

from orchestrator.tools.toolbox import ToolContext
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
    refused = await call(toolbox, "thread_name")
    assert (refused.outcome, error_of(refused)) == ("busy", "all 1 tool threads are taken: try again later")
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
    calls = [asyncio.create_task(call(toolbox, "block")) for _ in range(5)]
    done, running = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result().outcome for task in done} == {"busy"}
    assert (await call(toolbox, "echo", text="still here")).outcome == "ok"
    go.set()
    outcomes = [task.result().outcome for task in (await asyncio.wait(running))[0] | done]
    assert sorted(outcomes) == ["busy"] * 2 + ["ok"] * 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_keyboard_interrupt_and_system_exit_are_not_swallowed(
    make_toolbox: Make, error: type[BaseException]
) -> None:
    async def raise_later() -> None:
        """Raise."""
        raise error

    def raise_now() -> None:
        """Raise."""
        raise error

    toolbox = make_toolbox(raise_later, raise_now)
    for name in toolbox.names:
        with pytest.raises(error):
            await call(toolbox, name)


async def test_closed_toolbox_rejects_blocking_calls(make_toolbox: Make) -> None:
    toolbox = make_toolbox(thread_name, echo)
    assert (await call(toolbox, "thread_name")).outcome == "ok"
    await toolbox.aclose()
    assert (await call(toolbox, "thread_name")).outcome == "busy"
