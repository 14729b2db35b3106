"""The load of the engines, as each reports it in vLLM's /metrics."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

from ..collectors import EngineLoad
from ..connection import ConnectionBroken
from .address import Address
from .starts import Starts

READ_EVERY_SECONDS = 5.0
"""Rendering the page takes some milliseconds of the engine's time, and every orchestrator reads it."""

_AFTER_FAILURE_SECONDS = 60.0
_STALE_SECONDS = 3 * READ_EVERY_SECONDS
_LONGEST_PAGE = 4_194_304

_LINE = re.compile(
    rb"^vllm:(num_requests_running|num_requests_waiting|kv_cache_usage_perc|prefix_cache_queries_total"
    rb"|prefix_cache_hits_total|num_preemptions_total)(?:\{[^\n]*\})? (\d[\d.eE+-]*)\r?$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one engine reports: gauges, and counters since it started. `kv_cache` is a share from 0 to 1."""

    requests: float
    kv_cache: float
    counters: tuple[float, float, float]


def parse(page: bytes) -> Reading | None:
    """Reads a page with one sample per process of the engine. Returns None if it has none of vLLM's."""
    values: dict[bytes, list[float]] = {}
    for name, value in _LINE.findall(page):
        try:
            values.setdefault(name, []).append(float(value))
        except ValueError:
            continue
    if not values:
        return None
    requests = sum(values.get(b"num_requests_running", [])) + sum(values.get(b"num_requests_waiting", []))
    return Reading(
        requests,
        max(values.get(b"kv_cache_usage_perc", []), default=0.0),
        (
            sum(values.get(b"prefix_cache_queries_total", [])),
            sum(values.get(b"prefix_cache_hits_total", [])),
            sum(values.get(b"num_preemptions_total", [])),
        ),
    )


@dataclass(slots=True)
class _Engine:
    """The last reading of one engine, and when it is due again."""

    reading: Reading | None = None
    read_at: float = 0.0
    due_at: float = 0.0


class Loads:
    """Reads the load of each engine in the background, and adds up what all of them report."""

    def __init__(self, starts: Starts, *, timeout_seconds: float) -> None:
        self._starts = starts
        self._timeout_seconds = timeout_seconds
        self._engines: dict[Address, _Engine] = {}
        # Counters of all engines since this service started, engines that are gone included.
        self._queries = self._hits = self._preemptions = 0.0

    async def read(self, address: Address) -> None:
        """Reads the page of an engine if it is due. An engine without one is left alone for a minute."""
        engine = self._engines.setdefault(address, _Engine())
        now = time.monotonic()
        if now < engine.due_at:
            return
        engine.due_at = now + _AFTER_FAILURE_SECONDS
        try:
            async with asyncio.timeout(self._timeout_seconds):
                with await address.get("/metrics") as response:
                    page = await response.read() if response.status == 200 else b""
        except (TimeoutError, OSError, ConnectionBroken):
            return
        reading = parse(page) if len(page) <= _LONGEST_PAGE else None
        if reading is not None:
            engine.due_at = now + READ_EVERY_SECONDS
            self._count(engine.reading, reading)
            engine.reading, engine.read_at = reading, now

    def restarted(self, address: Address) -> None:
        """Reads the page of an engine that came up with the next probe."""
        self._engines.pop(address, None)

    def _count(self, before: Reading | None, now: Reading) -> None:
        """Adds what has happened between two readings; an engine that restarted counts from 0."""
        if before is None:
            return
        restarted = any(new < old for new, old in zip(now.counters, before.counters, strict=True))
        since = (0.0, 0.0, 0.0) if restarted else before.counters
        queries, hits, preemptions = (new - old for new, old in zip(now.counters, since, strict=True))
        self._queries += queries
        self._hits += hits
        self._preemptions += preemptions

    def load(self, addresses: Iterable[Address]) -> EngineLoad:
        """Returns the load of the engines that answer."""
        up = [address for address in addresses if address.up and address.known]
        self._engines = {address: one for address, one in self._engines.items() if not address.gone}
        oldest = time.monotonic() - _STALE_SECONDS
        requests, kv_cache = 0.0, 0.0
        for address in up:
            engine = self._engines.get(address)
            if engine is None or engine.reading is None or engine.read_at < oldest:
                requests += address.in_flight  # this service's own part is better than nothing
                continue
            requests += max(engine.reading.requests, address.in_flight)
            kv_cache = max(kv_cache, engine.reading.kv_cache)
        return EngineLoad(
            requests=requests,
            up=len(up),
            held=self._starts.held,
            unmet=self._starts.unmet,
            kv_cache=kv_cache,
            prefix_queries=self._queries,
            prefix_hits=self._hits,
            preemptions=self._preemptions,
            starts=self._starts.ended,
            start_seconds=self._starts.last_seconds,
        )
