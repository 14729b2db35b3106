"""`make bench-traces`: the price of traces: off, for 1 % of the requests, and for all, in alternating rounds.

With BEFORE=REVISION, the code of that revision is measured as well. Spans go to a program that only counts
their bytes; it and the queue are not what is measured, but encoding and sending is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import httpx

from bench.__main__ import engine_at, started
from bench.compare import COMPARED, Figures, gateway_of, report, unpacked
from bench.gateways import ENGINE_PORT, ROOT, build
from bench.measure import CHUNKS, MEASURES, once, write_bodies

SINK = """
import asyncio

async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            size = int(head.lower().partition(b"content-length:")[2].split(b"\\r\\n")[0])
            await reader.readexactly(size)
            writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""
_PORTS = ENGINE_PORT + 40


def sink(stack: ExitStack) -> str:
    """Starts a collector that accepts everything, and returns its URL."""
    program = stack.enter_context(
        subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True)
    )
    stack.callback(program.terminate)
    assert program.stdout is not None
    return f"http://127.0.0.1:{program.stdout.readline().strip()}"


def variants(before: str | None, url: str) -> list[tuple[str, str, dict[str, str]]]:
    """Returns what is compared: a name, a tree and its variables."""
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_MAX_QUEUE_SIZE": "65536"}
    here = str(ROOT)
    return [
        *([("before", before, dict[str, str]())] if before else []),
        ("off", here, {}),
        ("1 %", here, {**traced, "OTEL_TRACES_SAMPLER_ARG": "0.01"}),
        ("100 %", here, {**traced, "OTEL_TRACES_SAMPLER_ARG": "1"}),
    ]


def measured(before: str | None, rounds: int) -> tuple[list[str], Figures, list[str]]:
    """Measures every variant. Returns their names, the figures, and what became of the spans."""
    figures = {figure: measure for measure in MEASURES for figure in measure.figures}
    found: Figures = {}
    with tempfile.TemporaryDirectory(prefix="tandem-traces-") as name, ExitStack() as stack:
        directory = Path(name)
        write_bodies(directory)
        given = variants(before, sink(stack))
        gateways = [
            gateway_of(unpacked(tree, directory / f"tree-{number}"), variables)
            for number, (_, tree, variables) in enumerate(given)
        ]
        engine = engine_at(ENGINE_PORT, CHUNKS, 0, stack, directory)
        running, missing = started(gateways, stack, directory, engine, _PORTS)
        if missing:
            sys.exit(f"could not measure: {missing}")
        program = build("load")
        for number in range(rounds + 1):
            order = list(enumerate(running))
            for figure in COMPARED:
                for position, (gateway, one) in order if number % 2 else reversed(order):
                    value = once(figures[figure], gateway, one, program, directory)[figure]
                    if number:
                        found.setdefault((figure, position), []).append(value)
        last = running[-1][1]
        with last.awake():
            lines = httpx.get(f"http://127.0.0.1:{last.port}/metrics", timeout=60).text.splitlines()
    spans = [one for one in lines if one.startswith("trace_spans_total")]
    return [name for name, _, _ in given], found, spans


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.traces", description="Measure the price of traces."
    )
    parser.add_argument("--before", help="a revision without traces")
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    names, found, spans = measured(arguments.before, arguments.rounds)
    print("\n".join([*report(names, found), *spans]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
