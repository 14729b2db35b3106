"""`make bench-traces`: the price of traces: off, for 1 % of the requests, and for all, in alternating rounds.

With BEFORE=REVISION, the code of that revision is measured as well. Spans go to a program that only counts
their bytes; it and the queue are not what is measured, but encoding and sending is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from contextlib import ExitStack

import httpx

from bench.compare import measured, report
from bench.gateways import ROOT, Running

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


def sink(stack: ExitStack) -> str:
    """Starts a collector that accepts everything, and returns its URL."""
    program = stack.enter_context(
        subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True)
    )
    stack.callback(program.terminate)
    assert program.stdout is not None
    return f"http://127.0.0.1:{program.stdout.readline().strip()}"


def variants(before: str | None, url: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Returns what is compared, by name: a tree and its variables."""
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_MAX_QUEUE_SIZE": "65536"}
    here = str(ROOT)
    return {
        **({"before": (before, dict[str, str]())} if before else {}),
        "off": (here, {}),
        "1 %": (here, {**traced, "OTEL_TRACES_SAMPLER_ARG": "0.01"}),
        "100 %": (here, {**traced, "OTEL_TRACES_SAMPLER_ARG": "1"}),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.traces", description="Measure the price of traces."
    )
    parser.add_argument("--before", help="a revision without traces")
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    spans: list[str] = []

    def read_spans(service: Running) -> None:
        lines = httpx.get(f"http://127.0.0.1:{service.port}/metrics", timeout=60).text.splitlines()
        spans.extend(line for line in lines if line.startswith("trace_spans_total"))

    with ExitStack() as stack:
        compared = variants(arguments.before, sink(stack))
        found = measured(list(compared.values()), arguments.rounds, read_spans)
    print("\n".join([*report(list(compared), found), *spans]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
