"""Restarts three orchestrators one after the other behind nginx and HAProxy; no request may be lost.

`make soak-restarts`: 100,000 requests, with drains of 1, 3 and 10 s. A request is lost if it has no whole
answer with status 200, for whatever reason: clients behind a load balancer do not send a request again.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from tests.support.processes import Processes, Service
from tests.support.proxies import PROXIES, free_port, install, proxy
from tests.support.raw_http import Stream, answer, post
from tests.support.scripted_engine import Exchange, scripted_engine, stream, text, whole

_ORCHESTRATORS = 3
_STOP_SECONDS = 60.0
_NOTICED_SECONDS = 2.0
"""Time in which both proxies notice that one serves again. A deployment waits for that too."""


@dataclass
class Outcome:
    """What became of the requests, by proxy."""

    whole: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    restarts: int = 0

    def __str__(self) -> str:
        counts = ", ".join(f"{count} through {name}" for name, count in sorted(self.whole.items()))
        return f"{self.restarts} restarts; whole: {counts}; lost: {len(self.lost)}"


class Client:
    """Sends one request after the other on a connection to a proxy, which it keeps as long as it may."""

    def __init__(self, name: str, port: int, outcome: Outcome) -> None:
        self._name = name
        self._port = port
        self._outcome = outcome
        self._connection: Stream | None = None

    async def run(self, enough: asyncio.Event) -> None:
        number = 0
        while not enough.is_set():
            number += 1
            await self._ask(streaming=number % 2 == 0)
        self._close()

    async def _ask(self, *, streaming: bool) -> None:
        try:
            if self._connection is None:
                self._connection = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._connection
            writer.write(post("x", stream=streaming))
            got = await answer(reader)
            if got.status != 200 or b"whole" not in got.body or (streaming and b"[DONE]" not in got.body):
                self._outcome.lost.append(f"{self._name}: {got.status} {got.body[:200]!r}")
            else:
                self._outcome.whole[self._name] += 1
            if got.headers.get("connection") == "close":
                self._close()
        except (OSError, EOFError, TimeoutError) as error:
            self._outcome.lost.append(f"{self._name}: {type(error).__name__} {error}")
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection[1].close()
        self._connection = None


class Fleet:
    """Orchestrators on ports of their own, which are restarted in place."""

    def __init__(self, processes: Processes, engine: str) -> None:
        self.ports = [free_port() for _ in range(_ORCHESTRATORS)]
        self._processes = processes
        self._engine = engine
        self._services: list[Service] = []

    def start(self, drain: float) -> None:
        self._services = [self._start(port, drain) for port in self.ports]

    def restart(self, number: int, drain: float) -> None:
        """Ends one as its drain says, and starts it with the next one's."""
        service = self._services[number]
        service.terminate()
        status = service.ended(_STOP_SECONDS)
        if status:
            raise RuntimeError(f"{service.name} ended with {status}:\n{service.log}")
        self._processes.services.remove(service)
        self._services[number] = self._start(self.ports[number], drain)

    def _start(self, port: int, drain: float) -> Service:
        settings = {"DRAIN_SECONDS": str(drain), "STOP_SECONDS": "40"}
        return self._processes.orchestrator(self._engine, PORT=str(port), **settings)


async def _reply(exchange: Exchange) -> None:
    streaming = exchange.request.json.get("stream")
    await (stream(*text("whole")) if streaming else whole("whole"))(exchange)


async def run(*, requests: int, drains: Sequence[float], clients: int) -> Outcome:
    """Restarts every orchestrator with each drain, while clients send at least `requests` in all."""
    install()
    outcome, enough = Outcome(), asyncio.Event()
    async with scripted_engine() as engine:
        engine.otherwise = _reply
        with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
            fleet = Fleet(stack.enter_context(Processes()), engine.url)
            await asyncio.to_thread(fleet.start, drains[0])
            asking = []
            for name in PROXIES:
                port = stack.enter_context(proxy(name, fleet.ports, Path(directory)))
                asking += [
                    asyncio.create_task(Client(name, port, outcome).run(enough)) for _ in range(clients // 2)
                ]
            for drain, following in zip(drains, [*drains[1:], 0.0], strict=True):
                for number in range(_ORCHESTRATORS):
                    await asyncio.to_thread(fleet.restart, number, following or drain)
                    outcome.restarts += 1
                    await asyncio.sleep(_NOTICED_SECONDS)
            while outcome.whole.total() < requests and not outcome.lost:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            enough.set()
            await asyncio.gather(*asking)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.restarts", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--drains", default="1,3,10", help="seconds, one after the other")
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    drains = [float(drain) for drain in options.drains.split(",")]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(run(requests=options.requests, drains=drains, clients=options.clients))
    print(outcome, *[f"- {lost}" for lost in outcome.lost[:20]], sep="\n")
    return 1 if outcome.lost else 0


if __name__ == "__main__":
    sys.exit(main())
