"""`make bench-guard`: fails if the ratio of our CPU time to nginx's exceeds 1.5 times the stored ratio.

Both are read from the kernel in the same run, so a slow or busy machine changes the ratio little. --store
stores the current ratios.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.__main__ import engine_at, started
from bench.gateways import ENGINE_PORT, GATEWAYS, ROOT, build
from bench.measure import CHUNKS, MEASURES, can, once, write_bodies
from bench.results import median, ratio

BASELINE = ROOT / "bench" / "baseline.json"
MOST = 1.5
ROUNDS = 5
STORED_RUNS = 5
GUARDED = ("relay", "chunk", "tool loop")


def measured() -> dict[str, float]:
    """Returns our CPU as a multiple of nginx's; for the tool loop, which nginx lacks, of nginx's relay."""
    measures = {figure: measure for measure in MEASURES for figure in measure.figures}
    wanted = [gateway for gateway in GATEWAYS if gateway.name in ("ours", "nginx")]
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="tandem-guard-") as name, ExitStack() as stack:
        directory = Path(name)
        write_bodies(directory)
        engine = engine_at(ENGINE_PORT, CHUNKS, 0, stack, directory)
        running, missing = started(wanted, stack, directory, engine, ENGINE_PORT + 10)
        if missing:
            sys.exit(f"could not measure: {missing}")
        program = build("load")
        for _ in range(ROUNDS + 1):
            for guarded in GUARDED:
                for gateway, one in running:
                    figure = guarded if can(gateway, measures[guarded]) else "relay"
                    report = once(measures[figure], gateway, one, program, directory)
                    found.setdefault((guarded, gateway.name), []).append(report[figure])
    # The first round is dropped, since it includes one-time costs.
    return {name: ratio(found[name, "ours"][1:], found[name, "nginx"][1:]) for name in GUARDED}


def verdict(now: dict[str, float], stored: dict[str, float]) -> list[str]:
    """Writes a line per ratio that exceeds 1.5 times the stored one."""
    return [
        f"{name}: {now[name]:.2f} times nginx's CPU, more than {MOST} times the stored {stored[name]:.2f}"
        for name in GUARDED
        if now[name] > MOST * stored[name]
    ]


def store() -> None:
    """Stores the medians of several runs, since a machine may be unusually quiet during one."""
    runs = [measured() for _ in range(STORED_RUNS)]
    usual = {name: round(median([run[name] for run in runs]), 2) for name in GUARDED}
    BASELINE.write_text(json.dumps(usual, indent=1) + "\n")


def main() -> int:
    if sys.argv[1:] == ["--store"]:
        store()
    now = measured()
    stored = json.loads(BASELINE.read_text())
    for name, value in now.items():
        print(f"{name}: {value:.2f} times nginx's CPU (stored: {stored[name]:.2f})")
    worse = verdict(now, stored)
    for line in worse:
        print(f"✗ {line}", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
