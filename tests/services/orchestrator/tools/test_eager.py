"""Work that begins at once: nothing of what a coroutine may do is different."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.tools.eager import EagerCall


async def test_what_need_not_wait_has_ended() -> None:
    async def work() -> int:
        return 7

    eager = EagerCall(work())
    assert eager.ended
    assert eager.result == 7


async def test_what_fails_at_once_raises_at_once() -> None:
    async def work() -> None:
        raise LookupError("here")

    with pytest.raises(LookupError, match="here"):
        EagerCall(work())


async def test_what_waits_goes_on_where_it_was() -> None:
    go_on: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    steps = []

    async def work() -> str:
        steps.append("begun")
        told = await go_on
        await asyncio.sleep(0)
        steps.append("ended")
        return told

    eager = EagerCall(work())
    assert not eager.ended
    assert steps == ["begun"]
    go_on.set_result("told")
    assert await eager.rest() == "told"
    assert steps == ["begun", "ended"]


async def test_what_it_waits_for_may_fail() -> None:
    fails: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        try:
            await fails
        except LookupError as error:
            return f"caught {error}"
        return "not reached"

    eager = EagerCall(work())
    fails.set_exception(LookupError("late"))
    assert await eager.rest() == "caught late"


async def test_a_limit_of_its_own_holds() -> None:
    async def work() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            return "too late"
        return "not reached"

    assert await EagerCall(work()).rest() == "too late"


async def test_a_limit_around_it_cancels_it() -> None:
    cleaned = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    eager = EagerCall(work())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await eager.rest()
    assert cleaned.is_set()


async def test_a_cancelled_task_cancels_it() -> None:
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await never

    task = asyncio.create_task(EagerCall(work()).rest())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert never.cancelled()
