"""The soak: traffic, disturbances, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.soak.answers import read
from tests.soak.cases import FIXED, Mix
from tests.soak.client import Balancer, Connection
from tests.soak.servers import Server, engine, entries, orchestrator
from tests.soak.traffic import Tally, Traffic

OUTAGE_SECONDS = 0.3
"""How long a killed engine stays down."""
ROUTED_STILL_SECONDS = 0.4
"""How long a stopping orchestrator still receives requests (less than its DRAIN_SECONDS)."""
WARM_UP_SHARE = 0.15
MEMORY_GROWTH_MIB = 8.0
"""How much an orchestrator's memory may grow after the warm-up, over all further requests."""
_SETTLE_SECONDS = 10.0


class Soak:
    """Two engines behind two orchestrators.

    Args:
        requests: Total number of requests.
        kills: Number of times that engines are killed: one of them, or both every third time.
        clients: Number of concurrent requests.
        seed: Seed of the requests.
    """

    def __init__(self, *, requests: int, kills: int, clients: int, seed: int) -> None:
        self._requests = requests
        self._warm_up = int(requests * WARM_UP_SHARE)
        self._kills = kills
        self._clients = clients
        self._seed = seed
        self.tally = Tally()
        self.notes: list[str] = []
        self.engines = [engine("engine-1"), engine("engine-2")]
        self.orchestrators = [
            orchestrator("orchestrator-1", self.engines),
            orchestrator("orchestrator-2", self.engines),
        ]
        self._balancer = Balancer([server.port for server in self.orchestrators])

    async def run(self) -> None:
        """Runs the soak and fills `tally`, including its violations, and `notes`."""
        async with self._running():
            mix = Mix(self._seed, await self._undisturbed_texts())
            traffic = Traffic(self._balancer, mix, self.tally)
            await traffic.run(self._warm_up, self._clients)
            await self._settle()
            handles = [self._handles(server) for server in self.orchestrators]
            memory = [server.resident_mib() for server in self.orchestrators]
            begun = time.monotonic()
            running = asyncio.create_task(traffic.run(self._requests, self._clients))
            await asyncio.sleep(0)
            await self._disturb(traffic)
            await running
            seconds = time.monotonic() - begun
            self._note(f"{(self.tally.sent - self._warm_up) / seconds:,.0f} requests per second")
            await self._settle()
            await self._check_nothing_is_left(handles, memory)
        self._check_logs()

    def delete_logs(self) -> None:
        for server in (*self.engines, *self.orchestrators):
            for log in server.logs:
                log.unlink()

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        servers = [*self.engines, *self.orchestrators]
        try:
            await asyncio.gather(*(server.start() for server in self.engines))
            await asyncio.gather(*(server.start() for server in self.orchestrators))
            yield
            for server in reversed(servers):
                await self._end(server)
        finally:
            for server in servers:
                server.abandon()

    async def _undisturbed_texts(self) -> dict[str, str]:
        """Returns the answers to the fixed requests, which must be the same from both orchestrators."""
        texts: dict[str, str] = {}
        for name, (request, part) in FIXED.items():
            for port in self._balancer.ports:
                connection = await Connection.open(port)
                response = await connection.ask(json.dumps(request).encode())
                connection.close()
                assert response
                text = read(response).text
                if part not in text or texts.setdefault(name, text) != text:
                    self._violated(f"{name}: the undisturbed answer is {text!r}")
        return texts

    def _violated(self, what: str) -> None:
        self.tally.violations.append(what)

    def _note(self, what: str) -> None:
        self.notes.append(what)

    # Disturbances

    async def _disturb(self, traffic: Traffic) -> None:
        """Kills and restarts engines at even intervals of the traffic, and an orchestrator halfway."""
        steps = self._kills + 1
        for step in range(1, steps + 1):
            count = self._warm_up + (self._requests - self._warm_up) * step // (steps + 1)
            if not await traffic.passed(count):
                return
            if step == (steps + 1) // 2:
                await self._restart_orchestrator(self.orchestrators[0])
            else:
                await self._kill_engines(self.engines if step % 3 == 0 else [self.engines[step % 2]])

    async def _kill_engines(self, engines: list[Server]) -> None:
        self.tally.kills.append(time.monotonic())
        await asyncio.gather(*(server.end(signal.SIGKILL) for server in engines))
        await asyncio.sleep(OUTAGE_SECONDS)
        await asyncio.gather(*(server.start() for server in engines))
        self._note(f"killed and restarted: {' and '.join(server.name for server in engines)}")

    async def _restart_orchestrator(self, server: Server) -> None:
        ending = asyncio.create_task(self._end(server))
        await asyncio.sleep(ROUTED_STILL_SECONDS)
        self._balancer.take_out(server.port)
        await ending
        await server.start()
        self._balancer.put_in(server.port)
        (stopping,) = (entry for entry in entries(server.logs[-1]) if entry["message"] == "stopping")
        self._note(f"restarted: {server.name}, with {stopping['in_flight']} requests in flight")

    async def _end(self, server: Server) -> None:
        status = await server.end(signal.SIGTERM)
        if status:
            self._violated(f"{server.name} exited with status {status} on SIGTERM")

    # Checks

    async def _settle(self) -> None:
        """Checks that nothing is in flight, then closes all connections that are kept on purpose."""
        self._balancer.close()
        for server in self.orchestrators:
            await self._reaches(server, "engine_requests_in_flight", 0)
        for server in self.engines:
            await self._reaches(server, "vllm:num_requests_running", 0)
            await self._reaches(server, "vllm:num_requests_waiting", 0)
            await self._end(server)
            await server.start()
        for server in self.orchestrators:
            await self._reaches(server, "engine_up", len(self.engines))

    async def _reaches(self, server: Server, metric: str, wanted: float) -> None:
        async def problem() -> str | None:
            try:
                value = await server.metric(metric)
            except OSError as error:
                return f"{server.name} does not answer: {error}"
            return None if value == wanted else f"{server.name}: {metric} is {value:g}, not {wanted:g}"

        await self._passes(problem)

    async def _passes(self, problem: Callable[[], Awaitable[str | None]]) -> None:
        """Records a problem that does not go away."""
        until = time.monotonic() + _SETTLE_SECONDS
        while found := await problem():
            if time.monotonic() > until:
                self._violated(f"{found} ({_SETTLE_SECONDS:g} s after the last request)")
                return
            await asyncio.sleep(0.05)

    async def _check_nothing_is_left(self, handles: list[list[str]], memory: list[float]) -> None:
        for server, idle, before in zip(self.orchestrators, handles, memory, strict=True):

            async def problem(server: Server = server, idle: list[str] = idle) -> str | None:
                now = self._handles(server)
                return f"{server.name} has {now} open; when idle: {idle}" if len(now) > len(idle) else None

            await self._passes(problem)
            open_now, after = len(self._handles(server)), server.resident_mib()
            self._note(
                f"{server.name}: {len(idle)} open handles after the warm-up, {open_now} at the end; "
                f"{before:.1f} MiB of memory after the warm-up, {after:.1f} MiB at the end"
            )
            if after - before > MEMORY_GROWTH_MIB:
                self._violated(
                    f"{server.name} grew by {after - before:.1f} MiB (limit: {MEMORY_GROWTH_MIB:g})"
                )

    def _handles(self, server: Server) -> list[str]:
        """Returns the open handles, except one connection per engine that the last probe may have kept."""
        handles = server.handles()
        for engine_port in (server.port for server in self.engines):
            kept = next((handle for handle in handles if f"to {engine_port}," in handle), None)
            if kept:
                handles.remove(kept)
        return handles

    def _check_logs(self) -> None:
        """Checks that each received request is logged once, and that no unexpected error is logged."""
        statuses = []
        for log in (log for server in self.orchestrators for log in server.logs):
            for entry in entries(log):
                if entry["level"] not in ("info", "warning") or "exception" in entry:
                    self._violated(f"{log} has an unexpected error: {entry}")
                if entry["message"] == "request" and entry["route"] == "/v1/chat/completions":
                    statuses.append(entry["status"])
        sent, left = self.tally.sent + len(FIXED) * len(self.orchestrators), self.tally.left
        if not sent - left <= len(statuses) <= sent:
            self._violated(f"the logs have {len(statuses)} requests; {sent} were sent, {left} disconnected")
        if statuses.count(499) > left:
            self._violated(f"the logs have {statuses.count(499)} disconnects; {left} clients disconnected")
        for log in (log for server in self.engines for log in server.logs):
            if "Traceback" in log.read_text():
                self._violated(f"{log} has an unexpected error")


def table(soak: Soak) -> str:
    """Formats the counts by kind and outcome, and the notes."""
    outcomes = soak.tally.outcomes
    columns = [*sorted({outcome for _, outcome in outcomes}, key=lambda name: (name == "WRONG", name)), "all"]
    kinds = [*sorted({kind for kind, _ in outcomes}), "all"]
    counts = {
        (row, column): sum(
            n
            for (kind, outcome), n in outcomes.items()
            if row in (kind, "all") and column in (outcome, "all")
        )
        for row in kinds
        for column in columns
    }
    width = max(map(len, kinds))
    lines = [" " * width + "".join(f"  {column}" for column in columns)]
    for row in kinds:
        lines.append(row.ljust(width) + "".join(f"  {counts[row, c]:{len(c)},}" for c in columns))
    return "\n".join([*lines, "", *soak.notes])
