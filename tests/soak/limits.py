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
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import httpx
import uvloop

from examples.tiers import free_port
from orchestrator.limits.allowance import MINUTE
from tests.services.orchestrator.limits.shared_table import NAME, create_table
from tests.soak import limits_checks
from tests.soak.limits_checks import CANCELS, FLUSH_SECONDS, KEYS, TASKS, Answer, Outcome
from tests.support import metrics
from tests.support.processes import MODEL, Processes, Service

_SERVER = """
import sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
run_simple("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app), threaded=False)
"""
"""moto's server in one thread, since its updates of an item are not atomic, as DynamoDB's are."""

_TOOLS = [{"type": "function", "function": {"name": "calculate_math"}}]


class Fleet:
    """Three orchestrators, one of which may be killed and replaced."""

    def __init__(self, processes: Processes, engine: Service, environment: dict[str, str]) -> None:
        self._processes = processes
        self._engine = engine
        self._environment = environment
        self.services = [self._start() for _ in range(TASKS)]
        self.up = [service.url for service in self.services]

    def _start(self) -> Service:
        return self._processes.orchestrator(self._engine.url, **self._environment)

    def kill(self, number: int, outcome: Outcome) -> None:
        """Kills one orchestrator without a warning, and starts another."""
        service = self.services[number]
        os.kill(service.pid, signal.SIGKILL)
        outcome.kills[service.url] = time.monotonic()
        self.up.remove(service.url)
        service.ended()
        self._processes.services.remove(service)
        self.services[number] = self._start()
        self.up.append(self.services[number].url)

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
        key = choose.choice(list(KEYS))
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
        cancel = self._cancels and key == CANCELS and body["stream"] and "standin" in body
        if cancel:
            body["standin"] |= {"delay_token": 0.01, "chunks": 100}
        server = choose.choice(self._fleet.up)
        try:
            await self._exchange(key, server, body, cancel=cancel)
        except (httpx.HTTPError, AttributeError):
            # It was killed. While a connection is opened, anyio finds no socket then.
            self._outcome.answers[key, 0] += 1

    async def _exchange(self, key: str, server: str, body: dict[str, Any], *, cancel: bool) -> None:
        outcome, headers = self._outcome, {"authorization": f"Bearer {key}"}
        url = f"{server}/v1/chat/completions"
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
            counts = (usage["prompt_tokens"], usage["completion_tokens"])
            outcome.complete.append(Answer(key, server, time.monotonic(), *counts))
        elif answer.status_code not in (429, 503):
            outcome.violations.append(f"{key}: status {answer.status_code}")


async def run(*, requests: int, kills: int, clients: int, seed: int, cancels: bool = True) -> Outcome:
    """Runs the soak, and checks the outcome."""
    outcome = Outcome()
    with _table() as url, tempfile.NamedTemporaryFile("w", suffix=".json") as keys, Processes() as processes:
        json.dump({name: _entry(name, limits) for name, limits in KEYS.items()}, keys)
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
        for number in range(1, kills + 1):
            while not sending.done() and outcome.done <= requests * number / (kills + 1):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            if not sending.done():
                await asyncio.to_thread(fleet.kill, choose.randrange(TASKS), outcome)
        await sending
        outcome.seconds = time.monotonic() - begun
        await asyncio.to_thread(fleet.stop)
        name = "vllm:{}_tokens_total".format
        outcome.engine = (
            metrics.total(engine.url, name("prompt")),
            metrics.total(engine.url, name("generation")),
        )
        await asyncio.to_thread(limits_checks.check, outcome)
        for service in fleet.services:
            processes.services.remove(service)
    return outcome


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
