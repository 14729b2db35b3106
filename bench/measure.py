"""Measures a gateway: one load at a time, reading CPU time from the kernel before and after."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.gateways import ENGINE_PORT, KEY, OTHER_CORE, PACED_PORT, Ask, Gateway, Running

CHUNKS = 50
"""Events of a stream that arrives all at once, as from a fast engine under load."""

PACED_CHUNKS, PACED_SECONDS = 50, 0.1
"""Number of events in a paced stream, and seconds between two events."""

PACED_STREAMS = 1000


def _named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


TOOLS = [_named("get_current_weather"), _named("calculate_math")]
MCP = {"type": "mcp", "require_approval": "never"}


@dataclass(frozen=True)
class Measure:
    """A load and the figures it yields, each with its unit and its field in the report of `load`.

    Attributes:
        body: The request; None for the request of the gateway's own tool loop.
        rate: Requests started per second, however long answers take; 0 starts one when another is answered.
        added: Whether to subtract the figures of the same load without a gateway.
    """

    body: str | None
    connections: int
    requests: int
    figures: Mapping[str, tuple[str, str]]
    rate: int = 0
    added: bool = False
    streams: bool = False


PER_REQUEST, PER_CHUNK = ("CPU µs per request", "cpu_us_request"), ("CPU µs per chunk", "cpu_us_event")
ONE, RATE = "ms, 1 in flight", "ms"
MEASURES = (
    Measure("chat", 32, 4000, {"relay": PER_REQUEST}),
    Measure(None, 16, 1500, {"tool loop": PER_REQUEST}),
    Measure("long", 16, 1500, {"relay of 50 KB": PER_REQUEST}),
    Measure(
        "stream", 32, 800, {"chunk": PER_CHUNK, "first byte, 32 streams": ("ms", "first_p50_ms")},
        streams=True,
    ),
    Measure("chat", 1, 1500, {"added p50": (ONE, "p50_ms"), "added p99": (ONE, "p99_ms")}, added=True),
    Measure(
        "chat", 64, 1500, {"added p50 at 500/s": (RATE, "p50_ms"), "added p99 at 500/s": (RATE, "p99_ms")},
        rate=500, added=True,
    ),
    Measure("chat", 64, 4000, {"throughput": ("requests per second", "rps")}),
)  # fmt: skip


def write_bodies(directory: Path) -> None:
    """Writes the request bodies as JSON files."""
    instructions = "You are a helpful assistant. " * 40
    question = "What is the weather in Paris, and what is 2+2*3? Réponds en français."
    system, user = {"role": "system", "content": instructions}, {"role": "user", "content": question}
    base: dict[str, Any] = {"model": "mock-model", "messages": [system, user], "temperature": 0.2}
    asked = {"model": "mock-model", "instructions": instructions, "input": question, "temperature": 0.2}
    bodies = {
        "chat": base,
        "stream": {**base, "stream": True, "max_tokens": 200},
        "tools": {**base, "tools": TOOLS},
        "mcp-ours": {**base, "tools": [_named(f"bench__{tool['function']['name']}") for tool in TOOLS]},
        "mcp-chat": {**base, "tools": [{**MCP, "server_label": "litellm", "server_url": "litellm_proxy"}]},
        "mcp-responses": {**asked, "tools": [{**MCP, "server_label": "bench"}]},
        "responses-agentic": {
            **asked,
            "store": False,
            "tools": [{**MCP, "server_label": "bench", "server_url": f"http://127.0.0.1:{ENGINE_PORT}/mcp"}],
        },
        "long": {**base, "messages": [*history(49_000), user]},
    }
    for name, body in bodies.items():
        (directory / f"{name}.json").write_text(json.dumps(body, ensure_ascii=False))


def history(size: int) -> list[dict[str, str]]:
    """Builds a conversation of about this many bytes as JSON."""
    question = {"role": "user", "content": "Question: " + "lorem ipsum dolor sit amet " * 20}
    answer = {"role": "assistant", "content": "Answer: " + "consectetur adipiscing elit " * 20}
    return [question, answer] * (size // len(json.dumps([question, answer])))


def load(
    program: str,
    port: int,
    body: Path,
    *,
    connections: int,
    requests: int,
    rate: int = 0,
    late_us: int = 0,
    path: str = "/v1/chat/completions",
    holds: str = "",
) -> dict[str, float]:
    """Runs the load generator and returns its report. Every answer that is not streamed must contain `holds`.

    Raises:
        RuntimeError: An answer was wrong.
    """
    arguments = [program, port, path, body, KEY, connections, requests, rate, late_us, holds]
    ended = subprocess.run(
        [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {OTHER_CORE}),
    )
    if ended.returncode:
        raise RuntimeError(f"load: {ended.stdout.strip()} {ended.stderr.strip()}")
    report: dict[str, float] = json.loads(ended.stdout)
    report["rps"] = report["done"] / report["seconds"]
    return report


def can(gateway: Gateway, measure: Measure) -> bool:
    if measure.body is None:
        return gateway.loop is not None
    return gateway.relays and (gateway.streams or not measure.streams)


def once(
    measure: Measure, gateway: Gateway, running: Running, program: str, bodies: Path, *, share: float = 1.0
) -> dict[str, float]:
    """Returns the figures of one round of a measure, with `share` of its requests for slow gateways.

    Raises:
        RuntimeError: An answer was wrong.
    """
    asked = gateway.loop if measure.body is None and gateway.loop else Ask(str(measure.body))
    with running.awake() as spent:
        report = load(
            program,
            running.port,
            bodies / f"{asked.body}.json",
            connections=measure.connections,
            requests=max(measure.connections * 2, int(measure.requests * share)),
            rate=measure.rate,
            path=asked.path,
            holds=asked.holds,
        )
        cpu_us = spent()
    report |= {"cpu_us_request": cpu_us / report["done"], "cpu_us_event": cpu_us / max(report["events"], 1)}
    return {figure: report[field] for figure, (_, field) in measure.figures.items()}


def direct(measure: Measure, program: str, bodies: Path) -> dict[str, float]:
    """Returns the same load's figures without a gateway if they are to be subtracted, otherwise zeros."""
    if not measure.added:
        return dict.fromkeys(measure.figures, 0.0)
    report = load(
        program,
        ENGINE_PORT,
        bodies / f"{measure.body}.json",
        connections=measure.connections,
        requests=measure.requests,
        rate=measure.rate,
    )
    return {figure: report[field] for figure, (_, field) in measure.figures.items()}


def paced_streams(running: Running, program: str, bodies: Path) -> dict[str, float]:
    """Runs 1,000 streams of ten events per second; returns CPU per event, lateness in ms and memory."""
    with running.awake() as spent:
        report = load(
            program,
            running.port,
            bodies / "stream.json",
            connections=PACED_STREAMS,
            requests=PACED_STREAMS,
            late_us=int(PACED_SECONDS * 1e6),
        )
        cpu_us = spent()
    return {
        "1,000 streams: late p99": report["late_p99_ms"],
        "1,000 streams: late max": report["late_max_ms"],
        "1,000 streams: chunk": cpu_us / report["events"],
        "1,000 streams: memory": running.memory_mb(),
    }


PACED_ENGINE = f"http://127.0.0.1:{PACED_PORT}"
