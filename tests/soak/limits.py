"""Requests of many keys over three orchestrators that share a table and are killed; `make soak-limits`.

Afterwards, no key may have exceeded its limit by more than the stated bound, nothing may remain reserved, and
the stored usage must be what the engine counted, except for what killed orchestrators had not stored.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import httpx
import uvloop

from examples.tiers import free_port
from orchestrator.limits.allowance import DAY, MINUTE, Allowance
from orchestrator.limits.table import LIVE_SECONDS, Table, Terms
from orchestrator.limits.usage import Use, day_of
from tests.services.orchestrator.limits.shared_table import NAME, create_table
from tests.support import metrics
from tests.support.processes import MODEL, Processes, Service

TASKS = 3
FLUSH_SECONDS = 1
_ESTIMATE_ERROR = 0.5
"""Of the tokens of an average request: how wrong the estimate of one that was cut off may be on average."""

_SERVER = """
import sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
run_simple("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app), threaded=False)
"""
"""moto's server in one thread, since its updates of an item are not atomic, as DynamoDB's are."""

_TOOLS = [{"type": "function", "function": {"name": "calculate_math"}}]
_KEYS: dict[str, dict[str, Any]] = {
    "unlimited": {},
    "daily": {"tokens_per_day": 40_000},
    "small": {"tokens_per_day": 4_000},
    "minutely": {"requests_per_minute": 400},
    "parallel": {"max_in_flight": 6},
}


@dataclass
class Outcome:
    """What happened: answers by key and status, tokens that clients saw per key, and what must not happen."""

    kills: int = 0
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    by_minute: Counter[tuple[str, int]] = field(default_factory=Counter)
    cancelled: int = 0
    largest: int = 0
    seconds: float = 0.0
    stored: Use = field(default_factory=Use)
    engine: tuple[float, float] = (0.0, 0.0)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        prompt, generated = self.engine
        served = sum(count for (_, status), count in self.answers.items() if status == 200)
        limited = sum(count for (_, status), count in self.answers.items() if status == 429)
        return (
            f"{self.answers.total() + self.cancelled} requests in {self.seconds:.0f} s: {served} served, "
            f"{limited} beyond a limit, {self.cancelled} cancelled; {self.kills} orchestrators killed\n"
            f"prompt tokens: {prompt:.0f} by the engine, {self.stored.prompt_tokens} stored\n"
            f"generated tokens: {generated:.0f} by the engine, {self.stored.completion_tokens} stored\n"
            f"{self.stored.estimated} of {self.stored.requests} requests estimated"
        )


class Fleet:
    """Three orchestrators, one of which may be killed and replaced."""

    def __init__(self, processes: Processes, engine: Service, environment: dict[str, str]) -> None:
        self._processes = processes
        self._engine = engine
        self._environment = environment
        self.services = [self._start() for _ in range(TASKS)]

    def _start(self) -> Service:
        return self._processes.orchestrator(self._engine.url, **self._environment)

    def kill(self, number: int) -> None:
        """Kills one orchestrator without a warning, and starts another."""
        service = self.services[number]
        os.kill(service.pid, signal.SIGKILL)
        service.ended()
        self._processes.services.remove(service)
        self.services[number] = self._start()

    def stop(self) -> None:
        for service in self.services:
            service.terminate()
        for service in self.services:
            service.ended(20)


class Clients:
    """Sends requests of all keys to all orchestrators."""

    def __init__(self, fleet: Fleet, outcome: Outcome, seed: int, *, cancels: bool) -> None:
        self._fleet = fleet
        self._outcome = outcome
        self._random = random.Random(seed)
        self._cancels = cancels
        self._http = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=100))

    async def run(self, requests: int, clients: int) -> None:
        left = iter(range(requests))

        async def work() -> None:
            for _ in left:
                await self._request()

        await asyncio.gather(*[work() for _ in range(clients)])
        await self._http.aclose()

    async def _request(self) -> None:
        choose = self._random
        key = choose.choice(list(_KEYS))
        words = " ".join(str(choose.randrange(100)) for _ in range(choose.randrange(5, 60)))
        body: dict[str, Any] = {
            "model": MODEL, "max_tokens": 200, "messages": [{"role": "user", "content": f"Say {words}"}],
            "stream": choose.random() < 0.6, "standin": {"chunks": choose.randrange(5, 40)},
        }  # fmt: skip
        if choose.random() < 0.2:
            body["tools"] = _TOOLS
            body["messages"][0]["content"] = f"Calculate {choose.randrange(99)} * 3"
            del body["standin"]
        if body["stream"]:
            body["stream_options"] = {"include_usage": True}
        cancel = self._cancels and body["stream"] and "standin" in body and choose.random() < 0.1
        if cancel:
            body["standin"] |= {"delay_token": 0.01, "chunks": 100}
        url = f"{self._fleet.services[choose.randrange(TASKS)].url}/v1/chat/completions"
        try:
            await self._exchange(key, url, body, cancel=cancel)
        except (httpx.HTTPError, AttributeError):
            # It was killed. While a connection is opened, anyio finds no socket then.
            self._outcome.answers[key, 0] += 1

    async def _exchange(self, key: str, url: str, body: dict[str, Any], *, cancel: bool) -> None:
        outcome, headers = self._outcome, {"authorization": f"Bearer {key}"}
        async with self._http.stream("POST", url, json=body, headers=headers) as answer:
            minute = int(time.time()) // MINUTE
            usage: dict[str, int] = {}
            if answer.status_code == 200 and body["stream"]:
                number = 0
                async for line in answer.aiter_lines():
                    if line.startswith("data: {"):
                        number += 1
                        usage = json.loads(line[6:]).get("usage") or usage
                    if cancel and number == 10:
                        outcome.cancelled += 1
                        outcome.by_minute[key, minute] += 1
                        return
            elif answer.status_code == 200:
                usage = json.loads(await answer.aread())["usage"]
        outcome.answers[key, answer.status_code] += 1
        if answer.status_code == 200:
            outcome.by_minute[key, minute] += 1
            outcome.tokens[key] += usage.get("total_tokens", 0)
            outcome.largest = max(outcome.largest, usage.get("total_tokens", 0))
        elif answer.status_code not in (429, 503):
            outcome.violations.append(f"{key}: status {answer.status_code}")


async def run(*, requests: int, kills: int, clients: int, seed: int, cancels: bool = True) -> Outcome:
    """Runs the soak, and checks the outcome."""
    outcome = Outcome()
    with _table() as url, tempfile.NamedTemporaryFile("w", suffix=".json") as keys, Processes() as processes:
        json.dump({name: _entry(name, limits) for name, limits in _KEYS.items()}, keys)
        keys.flush()
        engine = processes.standin(
            "--max-num-seqs",
            "64",
            "--enable-prompt-tokens-details",
            "--enable-auto-tool-choice",
            "--tool-call-parser",
            "hermes",
        )
        environment = {
            **_aws(url), "LIMITS_TABLE": NAME, "API_KEYS_FILE": keys.name,
            "USAGE_FLUSH_SECONDS": str(FLUSH_SECONDS),
            "LIMITS_FAIL_OPEN": "false",  # on a busy machine, the table may not answer in time
        }  # fmt: skip
        fleet = Fleet(processes, engine, environment)
        begun = time.monotonic()
        sending = asyncio.create_task(Clients(fleet, outcome, seed, cancels=cancels).run(requests, clients))
        choose = random.Random(seed)
        while not sending.done() and outcome.kills < kills:
            done = outcome.answers.total() + outcome.cancelled
            if done > requests * (outcome.kills + 1) / (kills + 1):
                await asyncio.to_thread(fleet.kill, choose.randrange(TASKS))
                outcome.kills += 1
            await asyncio.sleep(0.05)
        await sending
        outcome.seconds = time.monotonic() - begun
        await asyncio.to_thread(fleet.stop)
        name = "vllm:{}_tokens_total".format
        outcome.engine = (
            metrics.total(engine.url, name("prompt")),
            metrics.total(engine.url, name("generation")),
        )
        await asyncio.to_thread(_check, outcome)
        for service in fleet.services:
            processes.services.remove(service)
    return outcome


def _check(outcome: Outcome) -> None:
    _check_limits(outcome)
    _check_leases(outcome)
    _check_usage(outcome)


def _check_limits(outcome: Outcome) -> None:
    """A key exceeds its limit by at most a slice per task that ever ran, and by its last requests."""
    tasks = TASKS + outcome.kills
    for key, limits in _KEYS.items():
        if most := limits.get("tokens_per_day"):
            slices = tasks * Allowance(most, DAY, shared=True).slice
            # What a killed task had spent since its last report returns to the limit.
            bound = slices + (TASKS + 2 * outcome.kills) * (outcome.largest + 300)
            if outcome.tokens[key] > most + bound:
                outcome.violations.append(f"{key}: {outcome.tokens[key]} tokens, {bound} more than {most}")
        if most := limits.get("requests_per_minute"):
            bound = tasks * Allowance(most, MINUTE, shared=True).slice
            minutes = sorted(minute for name, minute in outcome.by_minute if name == key)
            admitted = sum(outcome.by_minute[key, minute] for minute in minutes)
            if admitted > len(set(minutes)) * (most + bound):
                outcome.violations.append(f"{key}: {admitted} requests in {len(set(minutes))} minutes")


def _check_leases(outcome: Outcome) -> None:
    """Once the killed tasks count as dead, all that is taken was spent."""
    table = Table(NAME, "check")
    items = boto3.client("dynamodb").get_paginator("scan")
    found = [item for page in items.paginate(TableName=NAME) for item in page["Items"]]
    later = time.time() + LIVE_SECONDS + 1
    for item in found:
        if not item["sk"]["S"].startswith("tokens#"):
            continue
        kind, window = item["sk"]["S"].split("#")
        key = item["pk"]["S"].removeprefix("limit#")
        terms = Terms(key, kind, int(window), later, _KEYS[key]["tokens_per_day"], 0, 0, 0)
        before = table.lease(terms)
        for task in before.unspent:
            if not table.reclaim(terms, task, later):
                outcome.violations.append(f"{key}: the lease of {task} was not returned")
        after = table.lease(terms)
        spent = sum(int(value["N"]) for name, value in item.items() if name.startswith("s#"))
        if after.unspent or after.others != spent:
            outcome.violations.append(f"{key}: {after.others} taken and {spent} spent: {after.unspent}")
        if len(before.unspent) > outcome.kills:
            outcome.violations.append(f"{key}: a task that stopped kept its lease: {before.unspent}")


def _check_usage(outcome: Outcome) -> None:
    """Stored usage is what the engine counted: exactly, or within what was killed or estimated."""
    days = {day_of(time.time()), day_of(time.time() - outcome.seconds - 60)}
    for use in Table(NAME, "check").usage(days, None).values():
        outcome.stored.add(use)
    stored = (outcome.stored.prompt_tokens, outcome.stored.completion_tokens)
    for kind, engine, found in zip(("prompt", "generated"), outcome.engine, stored, strict=True):
        each = engine / max(1, outcome.stored.requests)
        lost = outcome.kills * (FLUSH_SECONDS + 1) * engine / max(1.0, outcome.seconds) / TASKS
        bound = lost + _ESTIMATE_ERROR * each * outcome.stored.estimated + outcome.kills * 40 * each
        bound = bound if outcome.kills or outcome.stored.estimated else 0
        if abs(engine - found) > bound:
            outcome.violations.append(
                f"{kind} tokens: {engine:.0f} counted, {found} stored, bound {bound:.0f}"
            )


def _entry(key: str, limits: dict[str, Any]) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(key.encode()).hexdigest(), **limits}


def _aws(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip


@contextmanager
def _table() -> Iterator[str]:
    """Runs moto's server with an empty table. This process' own clients use it, too."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-c", _SERVER, str(port)]
    saved = dict(os.environ)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            os.environ.update(_aws(url))
            _create(boto3.client("dynamodb"))
            yield url
        finally:
            server.kill()
            os.environ.clear()
            os.environ.update(saved)


def _create(client: Any) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            create_table(client)
        except Exception:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.limits", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(
            run(requests=options.requests, kills=options.kills, clients=options.clients, seed=options.seed)
        )
    print(outcome)
    for violation in outcome.violations:
        print(f"✗ {violation}")
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
