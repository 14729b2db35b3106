"""What is measured of a gateway: one load at a time, CPU read from the kernel before and after."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.gateways import ENGINE_PORT, KEY, OTHER_CORE, PACED_PORT, Ask, Gateway, Running

CHUNKS = 50
"""Events of a stream that comes all at once, as a fast engine's do under load."""

PACED_CHUNKS, PACED_SECONDS = 50, 0.1
"""Events of a paced stream, and the time between two."""

PACED_STREAMS = 1000

TOOLS = [
    {"type": "function", "function": {"name": "get_current_weather"}},
    {"type": "function", "function": {"name": "calculate_math"}},
]


MCP = {"type": "mcp", "require_approval": "never"}


@dataclass(frozen=True)
class Measure:
    """One figure: its unit, and the load that gives it.

    Attributes:
        body: the request; None for that of the gateway's own tool loop.
        per: what the CPU is divided by, a request or an event; None where the figure is `field` of the load.
        added: whether what the engine takes without a gateway is taken off.
    """

    name: str
    unit: str
    body: str | None
    connections: int
    requests: int
    per: str | None = "request"
    field: str = ""
    rate: int = 0
    added: bool = False
    streams: bool = False


MEASURES = (
    Measure("relay", "CPU µs a request", "chat", 32, 4000),
    Measure("relay of 50 KB", "CPU µs a request", "long", 16, 1500),
    Measure("chunk", "CPU µs a chunk", "stream", 32, 800, per="event", streams=True),
    Measure("tool loop", "CPU µs a request", None, 16, 1500),
    Measure("added p50", "ms, 1 in flight", "chat", 1, 1500, per=None, field="p50_ms", added=True),
    Measure("added p99", "ms, 1 in flight", "chat", 1, 1500, per=None, field="p99_ms", added=True),
    Measure("added p50 at 500/s", "ms", "chat", 64, 1500, per=None, field="p50_ms", rate=500, added=True),
    Measure("added p99 at 500/s", "ms", "chat", 64, 1500, per=None, field="p99_ms", rate=500, added=True),
    Measure("throughput", "requests a second", "chat", 64, 4000, per=None, field="rps"),
    Measure(
        "first byte, 32 streams", "ms", "stream", 32, 800, per=None, field="first_p50_ms", streams=True
    ),
)  # fmt: skip


def write_bodies(directory: Path) -> None:
    """The requests, as JSON files."""
    instructions = "You are a helpful assistant. " * 40
    question = "What is the weather in Paris, and what is 2+2*3? Réponds en français."
    system, user = {"role": "system", "content": instructions}, {"role": "user", "content": question}
    base: dict[str, Any] = {"model": "mock-model", "messages": [system, user], "temperature": 0.2}
    asked = {"model": "mock-model", "instructions": instructions, "input": question, "temperature": 0.2}
    bodies = {
        "chat": base,
        "stream": {**base, "stream": True, "max_tokens": 200},
        "tools": {**base, "tools": TOOLS},
        "mcp-chat": {**base, "tools": [{**MCP, "server_label": "litellm", "server_url": "litellm_proxy"}]},
        "mcp-responses": {**asked, "tools": [{**MCP, "server_label": "bench"}]},
        "long": {**base, "messages": [*history(49_000), user]},
    }
    for name, body in bodies.items():
        (directory / f"{name}.json").write_text(json.dumps(body, ensure_ascii=False))


def history(size: int) -> list[dict[str, str]]:
    """A conversation of about so many bytes as JSON."""
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
    """Runs the load generator; what it tells. Every whole answer has to hold `holds`.

    Raises:
        RuntimeError: an answer was wrong.
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
    told: dict[str, float] = json.loads(ended.stdout)
    told["rps"] = told["done"] / told["seconds"]
    return told


def can(gateway: Gateway, measure: Measure) -> bool:
    if measure.body is None:
        return gateway.loop is not None
    return gateway.relays and (gateway.streams or not measure.streams)


def once(
    measure: Measure, gateway: Gateway, running: Running, program: str, bodies: Path, *, share: float = 1.0
) -> float:
    """One round of one measure; `share` of its requests where a gateway is slow."""
    before = running.cpu_ns()
    asked = gateway.loop if measure.body is None and gateway.loop else Ask(str(measure.body))
    told = load(
        program,
        running.port,
        bodies / f"{asked.body}.json",
        connections=measure.connections,
        requests=max(measure.connections * 2, int(measure.requests * share)),
        rate=measure.rate,
        path=asked.path,
        holds=asked.holds,
    )
    if measure.per is None:
        return told[measure.field]
    count = told["done"] if measure.per == "request" else told["events"]
    return (running.cpu_ns() - before) / 1000 / count


def direct(measure: Measure, program: str, bodies: Path) -> float:
    """The same without a gateway."""
    return load(
        program,
        ENGINE_PORT,
        bodies / f"{measure.body}.json",
        connections=measure.connections,
        requests=measure.requests,
        rate=measure.rate,
    )[measure.field]


def paced_streams(running: Running, program: str, bodies: Path) -> dict[str, float]:
    """1,000 streams at once, ten events a second each: CPU µs of an event, and how late events come, ms."""
    before = running.cpu_ns()
    told = load(
        program,
        running.port,
        bodies / "stream.json",
        connections=PACED_STREAMS,
        requests=PACED_STREAMS,
        late_us=int(PACED_SECONDS * 1e6),
    )
    return {
        "1,000 streams: late p99": told["late_p99_ms"],
        "1,000 streams: late max": told["late_max_ms"],
        "1,000 streams: chunk": (running.cpu_ns() - before) / 1000 / told["events"],
        "1,000 streams: memory": running.memory_mb(),
    }


PACED_ENGINE = f"http://127.0.0.1:{PACED_PORT}"
