"""`make bench-growth`: measures growth with load, history, tool calls, engines and models.

Measures nginx too where it does the same work, to separate the machine's share from ours. Also checks whether
memory stays flat over a million requests (MILLION=0 skips that). SERIES=engines,models measures only these.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.__main__ import engine_at, started, store, versions
from bench.gateways import ENGINE_PORT, GATEWAYS, Gateway, Running, build
from bench.measure import CHUNKS, TOOLS, history, load, write_bodies

IN_FLIGHT = (1, 8, 64, 512, 2000)
HISTORY_KB = (1, 10, 100, 1000)
CALLS = (1, 2, 4, 8, 16)
ENGINES = (1, 2, 8, 64)
MODELS = (1, 10, 50)
DEARER_US = 15.0
"""What a request may cost more with the most engines or models than with one."""

ROUNDS = 3
TURNS = 6
Row = tuple[float, float, float, float]
_PORTS = ENGINE_PORT + 200
_NOISE = 0.1


@dataclass(frozen=True)
class Point:
    """The cost of a gateway at one size: medians of the rounds.

    Attributes:
        cpu_us: CPU per request, or per chunk for streams. The minimum of the rounds, since other work on the
            machine can only add to it.
        p50_ms, p99_ms: Latency of the whole answer, or of a stream's first byte.
        alone_p50_ms: p50 of the same load sent directly to the engine; None if that would be different work.
    """

    gateway: str
    size: int
    cpu_us: float
    requests_a_second: float
    p50_ms: float
    p99_ms: float
    alone_p50_ms: float | None
    memory_mb: float


@dataclass(frozen=True)
class Series:
    """A growing quantity. `exponent` is how CPU may grow with it: 0 for constant, 1 for linear."""

    title: str
    unit: str
    exponent: float
    points: list[Point]


@dataclass(frozen=True)
class Load:
    """A load: a number of requests on a number of connections, streamed or not."""

    body: Path
    connections: int
    requests: int
    streams: bool = False

    def on(self, program: str, port: int) -> dict[str, float]:
        return load(program, port, self.body, connections=self.connections, requests=self.requests)


def measured(
    running: Running, wanted: Load, program: str, *, name: str, size: int, alone: int | None
) -> Point:
    """Measures one point. `alone` is the engine's port, if sending the same load there makes sense."""
    prefix = "first_" if wanted.streams else ""
    rows = [one_round(running, wanted, program) for _ in range(ROUNDS)]
    direct = wanted.on(program, alone)[f"{prefix}p50_ms"] if alone else None
    return _point(running, rows, name=name, size=size, direct=direct)


def in_turn(gateways: Mapping[int, Running], wanted: Load, program: str, alone: int) -> list[Point]:
    """Measures our gateways of several sizes in turn, so that other work on the machine affects all alike."""
    rows: dict[int, list[Row]] = {size: [] for size in gateways}
    for _ in range(TURNS):
        for size, one in gateways.items():
            rows[size].append(one_round(one, wanted, program))
    direct = wanted.on(program, alone)["p50_ms"]
    return [_point(one, rows[size], name="ours", size=size, direct=direct) for size, one in gateways.items()]


def one_round(running: Running, wanted: Load, program: str) -> Row:
    """Sends a load once: CPU per request or chunk, requests per second, p50 and p99."""
    prefix = "first_" if wanted.streams else ""
    with running.awake() as spent:
        report = wanted.on(program, running.port)
        cpu = spent() / report["events" if wanted.streams else "done"]
    return cpu, report["rps"], report[f"{prefix}p50_ms"], report[f"{prefix}p99_ms"]


def _point(running: Running, rows: Sequence[Row], *, name: str, size: int, direct: float | None) -> Point:
    cpu = min(row[0] for row in rows)
    rps, p50, p99 = (statistics.median(column) for column in list(zip(*rows, strict=True))[1:])
    return Point(name, size, cpu, rps, p50, p99, direct, running.memory_mb())


def _with(gateway: Gateway, variables: Mapping[str, str]) -> Gateway:
    if not variables:
        return gateway
    return replace(
        gateway, environment=lambda port, engine: {**gateway.environment(port, engine), **variables}
    )


@contextmanager
def gateways(
    names: Sequence[str], engines: Sequence[str], place: Path, port: int, variables: Mapping[str, str] = {}
) -> Iterator[dict[str, Running]]:
    """Starts fresh gateways of these names in front of the engines, ours with these variables."""
    place.mkdir()
    with ExitStack() as stack:
        wanted = [_with(gateway, variables) for gateway in GATEWAYS if gateway.name in names]
        running, missing = started(wanted, stack, place, ",".join(engines), port)
        if missing:
            sys.exit(f"could not start: {missing}")
        yield {gateway.name: one for gateway, one in running}


def grow_in_flight(directory: Path, program: str, engine: str) -> Iterator[Series]:
    for body, title in (("chat", "requests in flight"), ("stream", "streams in flight")):
        streams = body == "stream"
        place = directory / f"in-flight-{body}"
        with gateways(("ours", "nginx"), [engine], place, _PORTS) as running:
            points = []
            for size in IN_FLIGHT:
                # Enough per connection that opening it hardly counts.
                requests = max(1500 if streams else 8000, size * (10 if streams else 20))
                wanted = Load(directory / f"{body}.json", size, requests, streams)
                for name, one in running.items():
                    points.append(measured(one, wanted, program, name=name, size=size, alone=ENGINE_PORT))
        yield Series(title, "in flight", 0, points)


def grow_history(directory: Path, program: str, engine: str) -> Series:
    points = []
    with gateways(("ours", "nginx"), [engine], directory / "history", _PORTS) as running:
        for kilobytes in HISTORY_KB:
            body = directory / f"history-{kilobytes}.json"
            messages = history(kilobytes * 1000) or [{"role": "user", "content": "x" * 1000}]
            body.write_text(json.dumps({"model": "mock-model", "messages": messages}))
            wanted = Load(body, 8, max(600, 4000 // kilobytes))
            for name, one in running.items():
                points.append(measured(one, wanted, program, name=name, size=kilobytes, alone=ENGINE_PORT))
    return Series("history", "KB", 1, points)


def grow_calls(directory: Path, program: str) -> Series:
    points = []
    body = directory / "call.json"
    messages = [{"role": "user", "content": "x"}]
    body.write_text(json.dumps({"model": "mock-model", "messages": messages, "tools": TOOLS}))
    for number, calls in enumerate(CALLS):
        with ExitStack() as stack:
            engine = engine_at(_PORTS + 10 + number, CHUNKS, 0, stack, directory, calls=calls)
            place = directory / f"calls-{calls}"
            running = stack.enter_context(gateways(("ours",), [engine], place, _PORTS))["ours"]
            wanted = Load(body, 16, 2000)
            points.append(measured(running, wanted, program, name="ours", size=calls, alone=None))
    return Series("tool calls per turn", "calls", 1, points)


def grow_engines(directory: Path, program: str) -> Series:
    with ExitStack() as stack:
        first = _PORTS + 20
        urls = [engine_at(first + n, CHUNKS, 0, stack, directory, polls=0) for n in range(max(ENGINES))]
        running = {
            count: stack.enter_context(
                gateways(("ours",), urls[:count], directory / f"engines-{count}", _PORTS + number)
            )["ours"]
            for number, count in enumerate(ENGINES)
        }
        points = in_turn(running, Load(directory / "chat.json", 32, 4000), program, first)
    return Series("engines", "engines", 0, points)


def grow_models(directory: Path, program: str, engine: str) -> Series:
    """Measures requests for the last of several models, which share an engine."""
    running = {}
    with ExitStack() as stack:
        for number, count in enumerate(MODELS):
            names = [*(f"model-{other}" for other in range(count - 1)), "mock-model"]
            models = {"MODELS": json.dumps([{"model": name, "url": engine} for name in names])}
            place = directory / f"models-{count}"
            context = gateways(("ours",), [engine], place, _PORTS + number, models)
            running[count] = stack.enter_context(context)["ours"]
        points = in_turn(running, Load(directory / "chat.json", 32, 4000), program, ENGINE_PORT)
    return Series("models", "models", 0, points)


Grow = Callable[[Path, str, str], Iterable[Series]]
SERIES: dict[str, Grow] = {
    "in-flight": grow_in_flight,
    "history": lambda directory, program, engine: [grow_history(directory, program, engine)],
    "calls": lambda directory, program, _: [grow_calls(directory, program)],
    "engines": lambda directory, program, _: [grow_engines(directory, program)],
    "models": lambda directory, program, engine: [grow_models(directory, program, engine)],
}


def chosen() -> list[Grow]:
    """Returns the series that SERIES names, by default all."""
    names = os.environ.get("SERIES", ",".join(SERIES)).split(",")
    if unknown := [name for name in names if name not in SERIES]:
        sys.exit(f"SERIES has unknown names: {', '.join(unknown)}; the names are {', '.join(SERIES)}")
    return [SERIES[name] for name in names]


def million(directory: Path, program: str, engine: str) -> list[float]:
    """Returns our memory in MB at the start and after each 100,000 of 1,000,000 requests."""
    with gateways(("ours",), [engine], directory / "million", _PORTS) as running:
        running["ours"].resume()
        memory = [running["ours"].memory_mb()]
        for _ in range(10):
            load(program, running["ours"].port, directory / "chat.json", connections=64, requests=100_000)
            memory.append(running["ours"].memory_mb())
    return memory


def steeper(series: Series) -> list[str]:
    """Writes a line per step at which our CPU grew by more than the series' exponent and noise allow.

    Several engines or models may cost a request a few microseconds more than one.
    """
    ours = [point for point in series.points if point.gateway == "ours"]
    lines = []
    if series.title in ("engines", "models"):
        more = ours[-1].cpu_us - ours[0].cpu_us
        if more > DEARER_US:
            lines.append(
                f"! {ours[-1].size} {series.unit} cost {more:.1f} µs more per request "
                f"than {ours[0].size}; expected: at most {DEARER_US:g}"
            )
        return lines
    for before, after in pairwise(ours):
        exponent = math.log(after.cpu_us / before.cpu_us) / math.log(after.size / before.size)
        if exponent > series.exponent + _NOISE:
            lines.append(
                f"! from {before.size} to {after.size} {series.unit}: CPU grew as size to the power of "
                f"{exponent:.2f}; expected: {series.exponent:g}"
            )
    return lines


def table(series: Series) -> str:
    """Formats a series as Markdown, followed by the steps that grew too much."""
    streamed = series.title.startswith("streams")
    unit = "chunk" if streamed else "request"
    latency = " to first byte" if streamed else ""
    lines = [
        f"| {series.title} | | CPU µs per {unit} | requests per second | p50{latency} ms | p99 ms "
        "| engine alone p50 ms | MB |",
        "|---" * 8 + "|",
    ]
    for point in series.points:
        alone = "" if point.alone_p50_ms is None else f"{point.alone_p50_ms:.2f}"
        lines.append(
            f"| {point.size:,} {series.unit} | {point.gateway} | {point.cpu_us:.1f} "
            f"| {point.requests_a_second:,.0f} | {point.p50_ms:.2f} | {point.p99_ms:.2f} "
            f"| {alone} | {point.memory_mb:.1f} |"
        )
    return "\n".join([*lines, "", *steeper(series)]) + "\n"


def main() -> int:
    start = time.monotonic()
    wanted = chosen()
    found: list[Series] = []
    with tempfile.TemporaryDirectory(prefix="tandem-growth-") as name, ExitStack() as stack:
        directory = Path(name)
        write_bodies(directory)
        program = build("load")
        engine = engine_at(ENGINE_PORT, CHUNKS, 0, stack, directory)
        for series in itertools.chain.from_iterable(grow(directory, program, engine) for grow in wanted):
            print(table(series), flush=True)
            found.append(series)
        memory = million(directory, program, engine) if os.environ.get("MILLION", "1") == "1" else []
    if memory:
        listed = ", ".join(f"{megabytes:.1f}" for megabytes in memory)
        print(f"memory in MB at the start and after each 100,000 of 1,000,000 requests: {listed}")
    result: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(["nginx"]),
        "series": [asdict(series) for series in found],
        "memory_mb": memory,
    }
    store(result, "growth-", start)
    return 0


if __name__ == "__main__":
    sys.exit(main())
