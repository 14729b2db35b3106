"""The time limit of a call that progress puts off."""

from __future__ import annotations

import asyncio
import time

import pytest

from orchestrator.tools.mcp.deadline import Deadline


async def test_cancels_the_task_when_the_time_has_passed() -> None:
    limit = Deadline(0.02)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.Event().wait()
    assert limit.is_reason()
    limit.end()
    await asyncio.sleep(0)  # the task is no longer being cancelled


async def test_is_put_off() -> None:
    limit = Deadline(0.1)
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    loop.call_later(0.08, limit.extend)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.Event().wait()
    assert limit.is_reason()
    assert time.monotonic() - started >= 0.17


async def test_cancellation_by_another_is_not_its_own() -> None:
    reasons = []

    async def call() -> None:
        limit = Deadline(60)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            reasons.append(limit.is_reason())
            raise
        finally:
            limit.end()

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reasons == [False]


async def test_cancellation_by_another_at_the_same_time_counts() -> None:
    reasons = []

    async def call() -> None:
        limit = Deadline(0.01)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            reasons.append(limit.is_reason())
            raise

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    time.sleep(0.02)  # noqa: ASYNC251  both timers have to be due in one iteration
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reasons == [False]


async def test_ended_limit_cancels_nothing() -> None:
    Deadline(0.01).end()
    await asyncio.sleep(0.03)
