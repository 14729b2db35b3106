"""`make bench`: measures the orchestrator and its peers side by side in one run, with interleaved rounds.

QUICK=1 measures ours, nginx, smg and LiteLLM in fewer rounds; `ours-mcp` is ours with an MCP server,
and `ours-responses` the same over the Responses API, beside agentic-api.
ONLY=a,b selects gateways, ROUNDS=n sets the number of rounds, and NOTE=text is stored with the result.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import gateways as peers
from bench.gateways import ENGINE_PORT, GATEWAY_CORE, GATEWAYS, OTHER_CORE, PACED_PORT, Gateway, Running
from bench.measure import (
    CHUNKS,
    MEASURES,
    PACED_CHUNKS,
    PACED_SECONDS,
    Measure,
    can,
    direct,
    once,
    paced_streams,
    write_bodies,
)
from bench.results import aims_text, table

RESULTS = peers.ROOT / "bench" / "results"
QUICK = ("ours", "ours-mcp", "nginx", "smg", "litellm")
SLOW = {"litellm": 0.03, "guide": 0.02}
"""Share of the requests sent to gateways that take milliseconds per request, which need fewer."""


def chosen() -> tuple[list[Gateway], int]:
    """Returns the selected gateways and the number of rounds."""
    quick = os.environ.get("QUICK") == "1"
    only = [name for name in os.environ.get("ONLY", "").split(",") if name] or (QUICK if quick else ())
    known = {gateway.name for gateway in GATEWAYS}
    unknown = sorted(set(only) - known)
    if unknown:
        sys.exit(
            f"ONLY={','.join(only)}: unknown gateway {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    rounds = int(os.environ.get("ROUNDS", "3" if quick else "5"))
    return [gateway for gateway in GATEWAYS if not only or gateway.name in only], rounds


def started(
    wanted: list[Gateway], stack: ExitStack, directory: Path, engine: str, first_port: int
) -> tuple[list[tuple[Gateway, Running]], dict[str, str]]:
    """Installs and starts gateways; returns those that started, paused, and why the others did not."""
    running: list[tuple[Gateway, Running]] = []
    missing: dict[str, str] = {}
    for number, gateway in enumerate(wanted):
        port = first_port + number
        place = directory / str(port)
        place.mkdir()
        try:
            if gateway.lock:
                peers.install(gateway.name, gateway.lock)
            if gateway.name == "nginx":
                peers.install_nginx()
            one = Running(
                gateway.command(port, engine, place),
                core=GATEWAY_CORE,
                port=port,
                environment=gateway.environment(port, engine),
                log=place / "log",
            )
            stack.callback(one.stop)
            one.wait()
            one.pause()
        except (subprocess.CalledProcessError, RuntimeError, OSError) as error:
            detail = getattr(error, "stderr", None) or str(error)
            missing[gateway.title] = str(detail).strip().splitlines()[-1][:200]
            continue
        running.append((gateway, one))
    return running, missing


def engine_at(
    port: int,
    chunks: int,
    interval_us: int,
    stack: ExitStack,
    directory: Path,
    *,
    calls: int = 2,
    polls: int = 20_000,
) -> str:
    """Starts an engine on the other core and returns its URL. `polls` is 0 if several share the core."""
    command = [peers.build("engine"), str(port), str(chunks), str(interval_us), str(calls), str(polls)]
    one = Running(command, core=OTHER_CORE, port=port, environment={}, log=directory / f"engine-{port}.log")
    stack.callback(one.stop)
    one.wait()
    return f"http://127.0.0.1:{port}"


def measured(wanted: list[Gateway], rounds: int, stack: ExitStack, directory: Path) -> dict[str, Any]:
    """Returns all figures by measure and gateway, with a value per round."""
    write_bodies(directory)
    program = peers.build("load")
    engine = engine_at(ENGINE_PORT, CHUNKS, 0, stack, directory)
    running, missing = started(wanted, stack, directory, engine, ENGINE_PORT + 10)
    figures: dict[str, dict[str, list[float]]] = {}
    wrong = warm(running, program, directory)
    for number in range(rounds):
        for measure in MEASURES:
            base = direct(measure, program, directory)
            for gateway, one in running:
                able = can(gateway, measure) and label(gateway, measure) not in wrong
                if able and (number < 1 or gateway.name not in SLOW):
                    share = SLOW.get(gateway.name, 1.0)
                    report = once(measure, gateway, one, program, directory, share=share)
                    for figure, value in report.items():
                        of_all = figures.setdefault(figure, {})
                        of_all.setdefault(gateway.name, []).append(value - base[figure])
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    relaying = [(gateway, one) for gateway, one in running if gateway.relays]
    figures["memory"] = {gateway.name: [one.memory_mb()] for gateway, one in reversed(running)}
    quick = [gateway for gateway, _ in relaying if gateway.name not in SLOW]
    for name, values in paced(quick, program, directory, rounds=rounds // 2):
        for what, value in values.items():
            figures.setdefault(what, {}).setdefault(name, []).append(value)
    return {"rounds": figures, "missing": {**peers.NOT_MEASURED, **missing, **wrong}}


def warm(running: list[tuple[Gateway, Running]], program: str, directory: Path) -> dict[str, str]:
    """Runs each measure once to exclude one-time costs; returns the failures, with their errors."""
    wrong = {}
    for gateway, one in running:
        for measure in MEASURES:
            if not measure.added and can(gateway, measure):
                try:
                    once(measure, gateway, one, program, directory, share=SLOW.get(gateway.name, 0.3))
                except RuntimeError as error:
                    wrong[label(gateway, measure)] = str(error)[:200]
    return wrong


def label(gateway: Gateway, measure: Measure) -> str:
    return f"{gateway.name}: {' and '.join(measure.figures)}"


def paced(
    wanted: list[Gateway], program: str, directory: Path, *, rounds: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """Sends 1,000 paced streams through each gateway per round, in separate processes."""
    place = directory / "paced"
    place.mkdir()
    with ExitStack() as stack:
        engine = engine_at(PACED_PORT, PACED_CHUNKS, int(PACED_SECONDS * 1e6), stack, place)
        running, _ = started(wanted, stack, place, engine, PACED_PORT + 100)
        for _ in range(rounds):
            for gateway, one in running:
                yield gateway.name, paced_streams(one, program, directory)


def versions(names: list[str]) -> dict[str, str]:
    """Returns what ran: the versions in the lock files, nginx's version, Python and the machine."""
    program, version = peers.interpreter()
    whose = "the system's" if program.startswith("/usr/bin/") else "not the system's"
    found = {"python": f"{version} ({whose})", "machine": machine()}
    for gateway in GATEWAYS:
        if gateway.name in names and gateway.lock and gateway.name != "ours":
            package = {"guide": "fastapi"}.get(gateway.name, gateway.name)
            lines = gateway.lock.read_text().splitlines()
            line = next(line for line in lines if line.startswith((f"{package}==", f"{package}[")))
            found[gateway.name] = line.split("==")[1].split()[0]
    if "nginx" in names and shutil.which("nginx"):
        output = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
        found["nginx"] = output.strip().rpartition("/")[2]
    return found


def machine() -> str:
    """Describes the machine: number and model of cores, and the kernel."""
    model = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition("\n")[0]
    kind = model.lstrip("\t: ") or platform.machine()
    return f"{os.cpu_count()} cores, {kind}, {platform.system()} {platform.release()}"


def units() -> dict[str, str]:
    later = {"memory": "MB after load", "1,000 streams: late p99": "ms", "1,000 streams: late max": "ms",
             "1,000 streams: chunk": "CPU µs per chunk", "1,000 streams: memory": "MB"}  # fmt: skip
    figures = [figure for measure in MEASURES for figure in measure.figures.items()]
    return {name: unit for name, (unit, _) in figures} | later


def store(result: dict[str, Any], prefix: str, start: float) -> None:
    """Writes a result, begun at `start` of the monotonic clock, to a file named by the time, and plots it."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{prefix}{datetime.now(UTC):%Y-%m-%dT%H%M}.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(f"stored in {file.relative_to(peers.ROOT)}, {time.monotonic() - start:.0f} s")
    peers.install("plot", peers.LOCKS / "plot.txt")
    subprocess.run([peers._python("plot"), "-m", "bench.plot", str(file)], cwd=peers.ROOT, check=True)


def main() -> int:
    wanted, rounds = chosen()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as name, ExitStack() as stack:
        result = measured(wanted, rounds, stack, Path(name))
    names = list(result["rounds"]["relay"])
    result |= {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "note": os.environ.get("NOTE", ""),
        "versions": versions(names),
        "units": units(),
        "gateways": names,
    }
    print(table(result["rounds"], result["units"], names))
    print(aims_text(result["rounds"]))
    for missing, why in result["missing"].items():
        print(f"not measured: {missing}: {why}")
    store(result, "", start)
    return 0


if __name__ == "__main__":
    sys.exit(main())
