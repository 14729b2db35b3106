"""The stand-in's queue: waiting, disconnecting, and that no slot is lost."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from standin_engine.arguments import parse_options
from standin_engine.scheduler import Scheduler


def scheduler_of(slots: int) -> Scheduler:
    return Scheduler(parse_options(["m", "--max-num-seqs", str(slots)], {}))


async def hold(scheduler: Scheduler, until: asyncio.Event | None = None) -> None:
    async with scheduler.run(1, 1):
        if until:
            await until.wait()


async def test_client_that_leaves_while_another_finishes_loses_no_slot() -> None:
    scheduler, may_end = scheduler_of(1), asyncio.Event()
    first = asyncio.create_task(hold(scheduler, may_end))
    await asyncio.sleep(0)
    second = asyncio.create_task(hold(scheduler))
    third = asyncio.create_task(hold(scheduler))
    await asyncio.sleep(0)
    assert (scheduler.running, scheduler.waiting) == (1, 2)
    may_end.set()
    second.cancel()
    outcomes = await asyncio.gather(first, second, third, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), asyncio.CancelledError, type(None)]
    assert (scheduler.running, scheduler.waiting) == (0, 0)


@given(st.integers(1, 3), st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12))
async def test_no_slot_is_lost_whoever_leaves_when(slots: int, clients: list[tuple[int, bool]]) -> None:
    scheduler, may_end = scheduler_of(slots), asyncio.Event()
    tasks = [asyncio.create_task(hold(scheduler, may_end)) for _ in clients]
    for turn in range(6):
        await asyncio.sleep(0)
        assert scheduler.running <= slots
        for task, (when, leaves) in zip(tasks, clients, strict=True):
            if leaves and when == turn:
                task.cancel()
        if turn == 3:
            may_end.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (scheduler.running, scheduler.waiting) == (0, 0)
