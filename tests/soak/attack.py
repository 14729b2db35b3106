"""Attacks the orchestrator's container, which has the memory of its task on AWS, from all sides at once.

Hostile clients send what costs memory, with a key and without, while the engine answers endlessly, breaks or
returns wide database rows. The container must never exceed 60% of its memory limit, must answer /health
throughout, and must serve a usual request afterwards. Otherwise this exits with status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import http.client
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvloop

from examples.tiers import free_port
from tests.soak.hostile_clients import MIB, Attacker, prepare
from tests.soak.hostile_engine import make_hostile, make_proper
from tests.support.containers.bases import PYTHON, ROOT, python_base
from tests.support.containers.container import HARDENED, Running, container
from tests.support.containers.engine import running_engine
from tests.support.containers.programs import NoEngine
from tests.support.scripted_engine import ScriptedEngine, scripted_engine

LIMIT_MIB = 2048
MOST = 0.6
KEY = "attacker-key-0123456789"
_HEALTH_SECONDS = 5.0
_WIDE = (
    "CREATE VIEW wide AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 100) "
    "SELECT id, hex(zeroblob(5000000)) AS data FROM n"
)


@dataclass
class Report:
    """What happened.

    Attributes:
        peak: the most memory that the server used, in bytes.
        slowest: the longest time for an answer of /health, in seconds.
        violations: what must not happen.
    """

    attacks: Counter[str] = field(default_factory=Counter)
    peak: int = 0
    slowest: float = 0.0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.attacks.items()))
        return (
            f"{self.attacks.total()} attacks ({counts}); peak {self.peak / MIB:.0f} MiB of {LIMIT_MIB}, "
            f"at most {MOST * LIMIT_MIB:.0f}; /health within {self.slowest:.2f} s"
        )


def settings(engine_url: str, port: int, database: str) -> dict[str, str]:
    """Returns the environment of the server, with short limits so that each of them is reached."""
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    return {
        "VLLM_URL": engine_url, "HOST": "127.0.0.1", "PORT": str(port), "API_KEYS": f"attacker:{digest}",
        "WEATHER_SOURCE": "sample", "DATABASE_URL": f"sqlite:///{database}", "DATABASE_TABLES": "wide",
        "HEAD_TIMEOUT_SECONDS": "5", "BODY_TIMEOUT_SECONDS": "5", "UNREAD_TIMEOUT_SECONDS": "5",
        "ENGINE_WAIT_SECONDS": "2", "REQUEST_TIMEOUT_SECONDS": "20", "DRAIN_SECONDS": "0",
    }  # fmt: skip


async def attack(
    port: int, engine: ScriptedEngine, *, seconds: float, clients: int, seed: int, peak: Callable[[], int]
) -> Report:
    """Attacks a running server."""
    report = Report()
    url = f"http://127.0.0.1:{port}"
    make_hostile(engine, seed)
    prepare()
    until = time.monotonic() + seconds
    attackers = [Attacker(port, KEY, random.Random(seed * 1000 + number)) for number in range(clients)]

    async def repeat(attacker: Attacker) -> None:
        while time.monotonic() < until:
            await attacker.attack()

    over = threading.Event()
    # In a thread, since the attackers keep this event loop busy.
    watching = threading.Thread(target=_watch, args=(port, report, over))
    watching.start()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(repeat(attacker) for attacker in attackers))
    finally:
        over.set()
        await asyncio.to_thread(watching.join)
    for attacker in attackers:
        report.attacks.update(attacker.counts)
    make_proper(engine)
    await _expect_answer(url, report)
    report.peak = peak()
    if report.peak > MOST * LIMIT_MIB * MIB:
        report.violations.append(f"the server used {report.peak / MIB:.0f} MiB")
    return report


def _watch(port: int, report: Report, over: threading.Event) -> None:
    """Requests /health until the attack is over."""
    while not over.wait(0.2):
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_HEALTH_SECONDS)
        try:
            connection.request("GET", "/health")
            status = connection.getresponse().status
            if status != 200:
                report.violations.append(f"/health answered with status {status}")
        except OSError as error:
            report.violations.append(f"/health did not answer: {error}")
        finally:
            connection.close()
        report.slowest = max(report.slowest, time.monotonic() - begun)


async def _expect_answer(url: str, report: Report) -> None:
    """Sends usual requests until the leftovers of the attack have ended, for at most 30 s."""
    request = {"messages": [{"role": "user", "content": "x"}]}
    status = 0
    async with httpx.AsyncClient(timeout=30, headers={"Authorization": f"Bearer {KEY}"}) as client:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                while status != 200:
                    with contextlib.suppress(httpx.HTTPError):
                        answer = await client.post(f"{url}/v1/chat/completions", json=request)
                        status = answer.status_code
                    await asyncio.sleep(0.2)
    if status != 200:
        report.violations.append(f"a usual request afterwards got status {status}")


@contextlib.contextmanager
def wide_database() -> Iterator[Path]:
    """Creates a database whose rows have 10 MB each, although its file is small."""
    with tempfile.TemporaryDirectory(prefix="tandem-attack-") as name:
        Path(name).chmod(0o755)
        connection = sqlite3.connect(Path(name) / "wide.db")
        connection.execute(_WIDE)
        connection.close()
        (Path(name) / "wide.db").chmod(0o644)
        yield Path(name)


@contextlib.contextmanager
def attacked_container(environment: dict[str, str], directory: Path) -> Iterator[Running]:
    """Starts the image that ships, with the limits of its task.

    Raises:
        NoEngine: there is no Docker engine and none can be installed.
    """
    with running_engine() as docker:
        python_base(docker, PYTHON)
        image = docker.build(ROOT / "services" / "orchestrator", "tandem-test/orchestrator")
        limit = f"{LIMIT_MIB}m"
        options = {**HARDENED, "mem_limit": limit, "memswap_limit": limit, "network_mode": "host"}
        volumes = {str(directory): {"bind": "/data", "mode": "ro"}}
        with container(docker, image, environment=environment, volumes=volumes, **options) as running:
            running.wait_until_healthy()
            yield running


async def run(*, seconds: float, clients: int, seed: int) -> Report:
    """Attacks the container."""
    port = free_port()
    async with scripted_engine() as engine:
        with wide_database() as directory:
            environment = settings(engine.url, port, "/data/wide.db")
            with contextlib.ExitStack() as stack:
                running = await asyncio.to_thread(
                    stack.enter_context, attacked_container(environment, directory)
                )
                report = await attack(
                    port, engine, seconds=seconds, clients=clients, seed=seed, peak=running.peak_memory
                )
                state = running.state
                if state["OOMKilled"] or not state["Running"]:
                    report.violations.append(f"the container ended: {state}")
                unexpected = running.log.count("unexpected error")
                if unexpected:
                    report.violations.append(f"the log has {unexpected} unexpected errors")
                    Path("/tmp/attack.log").write_text(running.log)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.attack", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(run(seconds=options.seconds, clients=options.clients, seed=options.seed))
    except NoEngine as error:
        print(f"the attack needs a Docker engine: {error}", file=sys.stderr)
        return 2
    print(report, *[f"- {violation}" for violation in report.violations], sep="\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
