"""`make bench-growth`: how ours grows with requests in flight, history, tool calls a turn and engines.

Whether its memory stays flat over a million requests, too; MILLION=0 leaves that out.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.__main__ import engine_at, started
from bench.gateways import ENGINE_PORT, GATEWAYS, Running, build
from bench.measure import CHUNKS, TOOLS, history, load, write_bodies

OURS = [gateway for gateway in GATEWAYS if gateway.name == "ours"]
IN_FLIGHT = (1, 8, 64, 512, 2000)
HISTORY_KB = (1, 10, 100, 1000)
CALLS = (1, 2, 4, 8, 16)
ENGINES = (1, 2, 8, 32)
_PORTS = ENGINE_PORT + 200


def cost(running: Running, program: str, body: Path, *, connections: int, requests: int) -> float:
    """CPU µs a request."""
    before = running.cpu_ns()
    load(program, running.port, body, connections=connections, requests=requests)
    return (running.cpu_ns() - before) / 1000 / requests


def told(title: str, rows: list[tuple[int, float]], unit: str) -> None:
    """Prints a series: the whole, and what each further unit costs beside the first row."""
    print(f"\n{title}")
    first_size, first = rows[0]
    for size, value in rows:
        more = (value - first) / (size - first_size) if size > first_size else 0.0
        print(f"  {size:>6}  {value:>9.1f} µs a request" + (f"  {more:>7.3f} µs {unit}" if more else ""))


def grow(directory: Path, program: str) -> None:
    with ExitStack() as stack:
        engine = engine_at(ENGINE_PORT, CHUNKS, 0, stack, directory)
        running, missing = started(OURS, stack, directory, engine, ENGINE_PORT + 10)
        if missing:
            sys.exit(f"not started: {missing}")
        ours, chat = running["ours"], directory / "chat.json"
        cost(ours, program, chat, connections=32, requests=3000)
        rows = [(n, cost(ours, program, chat, connections=n, requests=max(4000, n * 4))) for n in IN_FLIGHT]
        told("requests in flight", rows, "for each further one in flight")
        sizes = []
        for kilobytes in HISTORY_KB:
            body = directory / f"history-{kilobytes}.json"
            messages = history(kilobytes * 1000) or [{"role": "user", "content": "x" * 1000}]
            body.write_text(json.dumps({"model": "mock-model", "messages": messages}))
            sizes.append((kilobytes, cost(ours, program, body, connections=8, requests=600)))
        told("history, KB", sizes, "for each further KB")
        if os.environ.get("MILLION", "1") == "1":
            million(ours, program, chat)


def grow_calls(directory: Path, program: str) -> None:
    rows = []
    for number, calls in enumerate(CALLS):
        place = directory / f"calls-{calls}"
        place.mkdir()
        with ExitStack() as stack:
            engine = engine_at(_PORTS + number, CHUNKS, 0, stack, place, calls=calls)
            running, _ = started(OURS, stack, place, engine, _PORTS + 50 + number)
            body = place / "tools.json"
            body.write_text(
                json.dumps(
                    {"model": "mock-model", "messages": [{"role": "user", "content": "x"}], "tools": TOOLS}
                )
            )
            cost(running["ours"], program, body, connections=16, requests=300)
            rows.append((calls, cost(running["ours"], program, body, connections=16, requests=1200)))
    told("tool calls a turn", rows, "for each further call")


def grow_engines(directory: Path, program: str) -> None:
    rows = []
    for number, count in enumerate(ENGINES):
        place = directory / f"engines-{count}"
        place.mkdir()
        with ExitStack() as stack:
            urls = [engine_at(_PORTS + 100 + n, CHUNKS, 0, stack, place) for n in range(count)]
            running, _ = started(OURS, stack, place, ",".join(urls), _PORTS + 160 + number)
            chat = directory / "chat.json"
            cost(running["ours"], program, chat, connections=32, requests=2000)
            rows.append((count, cost(running["ours"], program, chat, connections=32, requests=6000)))
    told("engines", rows, "for each further engine")


def million(ours: Running, program: str, body: Path) -> None:
    print("\nmemory over a million requests, MB")
    for hundred_thousands in range(1, 11):
        load(program, ours.port, body, connections=64, requests=100_000)
        print(f"  {hundred_thousands * 100_000:>9,}  {ours.memory_mb():.1f}", flush=True)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="tandem-growth-") as name:
        directory = Path(name)
        write_bodies(directory)
        program = build("load")
        grow(directory, program)
        grow_calls(directory, program)
        grow_engines(directory, program)
    return 0


if __name__ == "__main__":
    sys.exit(main())
