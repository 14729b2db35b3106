"""Processes that share limits and usage through the table."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.errors import ApiError, LimitsUnavailable, RateLimited
from orchestrator.limits import sync as sync_module
from orchestrator.limits.accounts import Account, Accounts
from orchestrator.limits.rules import Limits
from orchestrator.limits.sync import Sync
from orchestrator.limits.table import LIVE_SECONDS, Table
from orchestrator.limits.usage import Usage
from orchestrator.record import Record
from tests.support.live import live
from tests.support.scripted_engine import ScriptedEngine, whole

from .shared_table import NAME

NOON = 1_800_000_000.0 - 1_800_000_000.0 % 86_400 + 43_200


class Process:
    """What one orchestrator has of limits, with a clock that the tests set."""

    def __init__(self, name: str, limits: Limits, clock: list[float], **options: Any) -> None:
        def now() -> float:
            return clock[0]

        self.accounts = Accounts(Limits(), shared=True, now=now, **options)
        self.alice: Account = self.accounts.replace({"alice": limits})["alice"]
        self.usage = Usage(now=now)
        self.sync = Sync(
            self.accounts, self.usage, Table(NAME, name), flush_seconds=5, on_tasks=lambda _: None, now=now
        )

    async def request(self, tokens: int = 0, size: int = 0) -> bool:
        """Returns whether a request was admitted, and counts it."""
        try:
            ticket = self.accounts.enter(self.alice)
        except (RateLimited, LimitsUnavailable):
            return False
        try:
            if not self.accounts.reserve(ticket, size):
                await self.accounts.wait(ticket, size)
        except ApiError:
            self.accounts.leave(ticket, 0)
            return False
        record = Record("r", "/", key_name="alice", model="m", status=200, completion_tokens=tokens)
        self.usage.count(record)
        self.accounts.leave(ticket, tokens)
        return True


@pytest.fixture
def clock() -> list[float]:
    return [NOON]


@contextlib.asynccontextmanager
async def running(*processes: Process) -> AsyncIterator[None]:
    for process in processes:
        await process.sync.start()
    try:
        yield
    finally:
        for process in processes:
            await process.sync.close()


async def test_requests_of_all_processes_reach_the_limit_and_exceed_it_by_at_most_their_slices(
    dynamodb: Any, clock: list[float]
) -> None:
    processes = [Process(name, Limits(requests_per_minute=40), clock) for name in ("one", "two", "three")]
    async with running(*processes):
        answers = await asyncio.gather(*[processes[n % 3].request() for n in range(120)])
        slices = sum(process.alice.requests.slice for process in processes if process.alice.requests)
        # Each process holds up to a slice in advance, and may spend one before its first lease.
        assert 40 - slices <= sum(answers) <= 40 + slices
        clock[0] += 60
        assert await processes[0].request()


async def test_tokens_of_all_processes(dynamodb: Any, clock: list[float]) -> None:
    processes = [Process(name, Limits(tokens_per_day=1000), clock) for name in ("one", "two")]
    async with running(*processes):
        admitted = 0
        for number in range(60):
            admitted += await processes[number % 2].request(tokens=25, size=100)
        assert 1000 <= admitted * 25 <= 1000 + 2 * (50 + 25)
    days = ["2027-01-15"]
    [use] = Table(NAME, "reader").usage(days, "alice").values()
    assert (use.requests, use.completion_tokens) == (admitted, admitted * 25)


async def test_stopped_process_returns_what_it_leased(dynamodb: Any, clock: list[float]) -> None:
    one = Process("one", Limits(tokens_per_day=1000), clock)
    async with running(one):
        await one.request(tokens=30, size=400)
    [item] = [item for item in dynamodb.scan(TableName=NAME)["Items"] if item["pk"]["S"] == "limit#alice"]
    assert int(item["taken"]["N"]) == 30
    assert not [item for item in dynamodb.scan(TableName=NAME)["Items"] if item["pk"]["S"] == "task"]


async def test_lease_of_a_killed_process_returns(dynamodb: Any, clock: list[float]) -> None:
    limits = Limits(tokens_per_day=1000)
    killed, other = Process("killed", limits, clock), Process("other", limits, clock)
    await killed.sync.start()
    ticket = killed.accounts.enter(killed.alice)
    killed.accounts.reserve(ticket, 3600)
    await killed.sync.leased()
    assert killed.sync._task is not None
    killed.sync._task.cancel()
    async with running(other):
        assert other.alice.tokens is not None
        for _ in range(10):
            await other.request(tokens=25)
        await other.sync.leased()
        assert other.alice.tokens.exhausted
        clock[0] += LIVE_SECONDS + 1
        other.sync._live = {"other"}
        spent = 0
        for _ in range(60):
            spent += 25 * await other.request(tokens=25)
            await other.sync.leased()
        assert other.alice.tokens.spent >= 1000


class Broken(Table):
    """A table that does not answer while `broken`."""

    def __init__(self) -> None:
        super().__init__(NAME, "one")
        self.broken = True

    def fail(self) -> None:
        raise ConnectionError("the table does not answer")

    @property
    def _client(self) -> Any:
        if self.broken:
            self.fail()
        return super()._client


@pytest.mark.parametrize("fail_open", [True, False])
async def test_process_continues_without_the_table_and_reports_later(
    dynamodb: Any, clock: list[float], fail_open: bool, caplog: pytest.LogCaptureFixture
) -> None:
    one = Process("one", Limits(requests_per_minute=10), clock, fail_open=fail_open)
    table = one.sync._table = Broken()
    async with running(one):
        assert one.accounts.down
        assert sum([await one.request() for _ in range(12)]) == (10 if fail_open else 0)
        assert caplog.text.count("does not answer") >= 1
        table.broken = False
        clock[0] += 60
        await one.sync.leased()
        assert not one.accounts.down
        assert await one.request()
    assert Table(NAME, "reader").usage(["2027-01-15"], None)


async def test_last_flush_is_repeated_until_the_table_answers(dynamodb: Any, clock: list[float]) -> None:
    one = Process("one", Limits(tokens_per_day=1000), clock)
    table = one.sync._table = Broken()
    table.broken = False
    await one.sync.start()
    await one.request(tokens=30, size=400)
    table.broken = True
    failures = 0

    def fail() -> None:
        nonlocal failures
        failures += 1
        table.broken = failures < 3
        raise ConnectionError("the table does not answer")

    table.fail = fail  # type: ignore[method-assign]
    await one.sync.close()
    assert failures == 3
    [use] = Table(NAME, "reader").usage(["2027-01-15"], "alice").values()
    assert use.completion_tokens == 30
    items = dynamodb.scan(TableName=NAME)["Items"]
    assert [int(item["taken"]["N"]) for item in items if item["pk"]["S"] == "limit#alice"] == [30]
    assert not [item for item in items if item["pk"]["S"] == "task"]


async def test_process_stops_in_time_without_the_table_and_logs_what_is_lost(
    dynamodb: Any, clock: list[float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sync_module, "_CLOSE_SECONDS", 0.3)
    one = Process("one", Limits(), clock)
    one.sync._table = Broken()
    await one.sync.start()
    await one.request(tokens=30)
    async with asyncio.timeout(5):
        await one.sync.close()
    [lost] = [record for record in caplog.records if "was not stored" in record.message]
    assert lost.fields == {"rows": 1}  # type: ignore[attr-defined]


async def test_shares_are_those_of_the_live_processes(dynamodb: Any, clock: list[float]) -> None:
    one, two = (Process(name, Limits(), clock) for name in ("one", "two"))
    async with running(one, two):
        assert (one.accounts.tasks, two.accounts.tasks) == (1, 2)
        clock[0] += 20
        await one.sync.leased()
        assert one.accounts.tasks == 2


async def test_two_servers_report_the_usage_of_both(
    dynamodb: Any, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.otherwise = whole("ok")
    monkeypatch.setattr(sync_module, "_BEAT_SECONDS", 0)
    settings = {"LIMITS_TABLE": NAME, "BOOTSTRAP_API_KEY": "a-long-secret-key", "KEY_TOKENS_PER_DAY": "10000"}
    headers = {"authorization": "Bearer a-long-secret-key"}
    async with live(engine.url, **settings) as one:
        async with live(engine.url, **settings) as two:
            for server in (one, two, two):
                assert (await server.chat(headers=headers)).status_code == 200
        report = (await one.http.get("/v1/usage", headers=headers)).json()
    assert report["scope"] == "all servers"
    [row] = report["data"]
    assert (row["key"], row["requests"], row["prompt_tokens"]) == ("bootstrap", 3, 30)
