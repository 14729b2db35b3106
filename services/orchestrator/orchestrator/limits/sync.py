"""Keeps this process in step with the others through the table. No request waits for its calls as a rule."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .accounts import Account, Accounts
from .allowance import DAY, Allowance
from .table import LIVE_SECONDS, Lease, Table, Terms
from .usage import RowKey, Usage, Use

log = logging.getLogger("orchestrator.limits")

_BEAT_SECONDS = LIVE_SECONDS / 4
_WAIT_SECONDS = 4.0
_THREADS = 4
_CLOSE_SECONDS = 8.0  # less than the time between STOP_SECONDS and the end of a task on AWS
_RETRY_SECONDS = 0.25


class Sync:
    """Leases limits, reports what was spent, and stores usage.

    Args:
        flush_seconds: interval at which usage is stored. A process that is killed loses at most that much.
        on_tasks: is called with the number of processes that share limits, when it may have changed.
    """

    def __init__(
        self,
        accounts: Accounts,
        usage: Usage,
        table: Table,
        *,
        flush_seconds: float,
        on_tasks: Callable[[int], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._accounts = accounts
        self._usage = usage
        self._table = table
        self._flush_seconds = flush_seconds
        self._on_tasks = on_tasks
        self._now = now
        self._live: set[str] = {table.task}
        self._beat_at = 0.0
        self._flush_at = 0.0
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="limits")
        self._wake = asyncio.Event()
        self._storing = asyncio.Lock()  # an older copy of a row must not follow a newer one
        self._next: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Joins the other processes, if the table answers, and keeps in step with them."""
        self._next = asyncio.get_running_loop().create_future()
        self._accounts.leased = self.leased
        self._accounts.wake = self._wake.set
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._round()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stores what is left, and returns what was leased and not spent; tries again for some seconds."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._insist(self._flush)
                await self._insist(self._leave)
        if self._usage.changed:
            fields = {"rows": len(self._usage.changed)}
            log.error("the last usage was not stored", extra={"fields": fields})
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def leased(self) -> None:
        """Waits for a round of leases that begins now or later, but not for long."""
        self._wake.set()
        assert self._next is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_SECONDS):
                await asyncio.shield(self._next)

    async def read(self, days: Sequence[str], key: str | None) -> dict[RowKey, Use]:
        """Returns the usage of some days over all processes, of one key or of all.

        What this process has not stored yet is stored first.
        """
        await self._store_usage()
        found: dict[RowKey, Use] = await self._call(self._table.usage, days, key)
        return found

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.05, self._flush_at - self._now())):
                    await self._wake.wait()
            self._wake.clear()
            done, self._next = self._next, asyncio.get_running_loop().create_future()
            try:
                await self._round()
            finally:
                assert done is not None
                done.set_result(None)

    async def _round(self) -> None:
        """Leases what is lacking and, if it is time, stores everything."""
        now = self._now()
        flush = now >= self._flush_at
        if flush:
            self._flush_at = now + self._flush_seconds
            await self._attempt(self._flush, returning=False)
        elif not self._accounts.down:
            await self._attempt(self._lease_lacking, returning=False)

    async def _attempt(self, step: Callable[..., Any], *, returning: bool) -> bool:
        """Runs a step, and notes and returns whether the table answers."""
        accounts = self._accounts
        try:
            await step(returning)
        except Exception as error:  # noqa: BLE001 (boto3 raises many kinds; the next attempt may succeed)
            if not accounts.down:
                fields = {"reason": f"{type(error).__name__}: {error}"}
                log.error("the table of limits and usage does not answer", extra={"fields": fields})
            accounts.down = True
        else:
            if accounts.down:
                log.warning("the table of limits and usage answers again")
            accounts.down = False
        return not accounts.down

    async def _insist(self, step: Callable[..., Any]) -> None:
        while True:
            if await self._attempt(step, returning=True):
                return
            await asyncio.sleep(_RETRY_SECONDS)

    async def _flush(self, returning: bool) -> None:
        now = self._now()
        if now >= self._beat_at or self._accounts.down:
            self._live = await self._call(self._table.beat, now)
            self._beat_at = now + _BEAT_SECONDS
            self._accounts.tasks = max(1, len(self._live))
            self._on_tasks(self._accounts.tasks)
        await self._store_usage()
        accounts = list(self._accounts)
        self._accounts.lacking.clear()
        await self._lease_for(accounts, returning=returning)

    async def _leave(self, _returning: bool) -> None:
        await self._call(self._table.leave)

    async def _store_usage(self) -> None:
        async with self._storing:
            await self._store_changed()

    async def _store_changed(self) -> None:
        changed, self._usage.changed = self._usage.changed, set()
        # Copies, since the rows change while they are stored. A row is as old as its whole copy.
        rows = [(key, Use(**_counts(use))) for key in changed if (use := self._usage.row(key)) is not None]
        try:
            if rows:
                await self._call(self._table.store, rows)
        except BaseException:
            self._usage.changed |= changed
            raise

    async def _lease_lacking(self, returning: bool) -> None:
        lacking, self._accounts.lacking = self._accounts.lacking, set()
        await self._lease_for(list(lacking), returning=returning)

    async def _lease_for(self, accounts: Sequence[Account], *, returning: bool) -> None:
        leases = []
        for account in accounts:
            for allowance in account.allowances:
                allowance.roll(self._now())
                if allowance.asks(returning=returning):
                    leases.append(self._lease(account, allowance, returning=returning))
        await asyncio.gather(*leases)

    async def _lease(self, account: Account, allowance: Allowance, *, returning: bool) -> None:
        wanted = allowance.spent if returning else allowance.granted + allowance.lacks
        terms = Terms(
            account.name,
            "tokens" if allowance.seconds == DAY else "requests",
            allowance.window,
            allowance.ends,
            allowance.limit,
            allowance.granted,
            wanted,
            allowance.spent,
        )
        lease: Lease = await self._call(self._table.lease, terms)
        if terms.window == allowance.window:
            allowance.take(lease, wanted=wanted, spent=terms.spent)
        if allowance.seconds == DAY and not returning:
            for task in lease.unspent.keys() - self._live:
                if await self._call(self._table.reclaim, terms, task, self._now()):
                    allowance.exhausted = False
                    self._accounts.lacking.add(account)

    async def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


def _counts(use: Use) -> dict[str, Any]:
    return {field.name: getattr(use, field.name) for field in dataclasses.fields(use)}
