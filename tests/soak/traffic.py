"""Clients that send requests, and the outcomes of those requests."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.soak.answers import Wrong
from tests.soak.cases import Case, Mix, judge
from tests.soak.client import Balancer, Broken, NoneInService

PATIENCE_SECONDS = 90.0
"""How long a client waits for its answer; no request takes longer, even while all engines are down."""
MOST_VIOLATIONS = 20
"""Number of violations after which the clients stop."""


@dataclass(slots=True)
class Tally:
    """The number of requests by kind and outcome."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    sent: int = 0
    left: int = 0
    kills: list[float] = field(default_factory=list)
    """Times at which engines were killed, on the monotonic clock."""


class Traffic:
    """Sends the cases of a mix through a balancer, and judges the answers."""

    def __init__(self, balancer: Balancer, mix: Mix, tally: Tally) -> None:
        self._balancer = balancer
        self._mix = mix
        self._tally = tally
        self._ended = 0
        self._running = False
        self._moved = asyncio.Event()

    async def run(self, until: int, clients: int) -> None:
        """Runs until this many requests in total have ended."""
        self._running = True
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client(until))
        self._running = False
        self._moved.set()

    async def passed(self, count: int) -> bool:
        """Waits until this many requests have ended; returns False if the clients stop earlier."""
        while self._ended < count and self._running:
            self._moved.clear()
            await self._moved.wait()
        return self._ended >= count

    async def _client(self, until: int) -> None:
        tally = self._tally
        while tally.sent < until and len(tally.violations) < MOST_VIOLATIONS:
            tally.sent += 1
            case = self._mix.next()
            try:
                outcome = await self._send(case)
            except (Wrong, Broken, NoneInService, TimeoutError) as error:
                outcome = "WRONG"
                what = f"{case.kind}: {type(error).__name__}: {error}"
                tally.violations.append(f"{what}\n  Request: {json.dumps(case.request)}")
            tally.outcomes[case.kind, outcome] += 1
            self._ended += 1
            self._moved.set()

    async def _send(self, case: Case) -> str:
        begun = time.monotonic()
        async with asyncio.timeout(PATIENCE_SECONDS):
            port, connection = await self._balancer.connect()
            try:
                response = await connection.ask(json.dumps(case.request).encode(), case.leave)
            finally:
                self._balancer.give_back(port, connection)
        if response is None:
            self._tally.left += 1
            return "disconnected"
        killed = any(begun <= kill <= time.monotonic() for kill in self._tally.kills)
        return judge(case, response, engine_killed=killed)
