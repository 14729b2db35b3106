"""A stand-in for vLLM: the same API, command-line arguments and behaviour on the wire, without a model.

    python standin.py Qwen/Qwen2.5-7B-Instruct --port 8000 --enable-auto-tool-choice --tool-call-parser hermes

It accepts the arguments of `vllm serve` and exits with status 2 on any other. STANDIN_LOAD_SECONDS in the
environment simulates a model's loading time, during which the port is bound but refuses connections.
A request can ask for faults: see standin_engine/faults.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys

import uvloop

from standin_engine.app import NOTICE, App
from standin_engine.arguments import Options, parse_options
from standin_engine.server import Connection

_BACKLOG = 2048


def bind(options: Options) -> socket.socket:
    """Binds a socket to the host and port. It refuses connections until a server listens on it."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((options.host, options.port))
    return listener


async def serve(options: Options, listener: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT, then gives running requests `--shutdown-timeout` seconds to finish."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    url = f"http://{options.host}:{listener.getsockname()[1]}"
    logging.info("Stand-in engine for %s: %s", options.model, NOTICE)
    if await _waited(stopped, options.load_seconds):
        return
    connections: set[Connection] = set()
    app = App(options)
    server = await loop.create_server(lambda: Connection(app, connections), sock=listener, backlog=_BACKLOG)
    logging.info("Serving on %s", url)
    await stopped.wait()
    server.close()
    await _drain(connections, options.shutdown_timeout)


async def _waited(stopped: asyncio.Event, seconds: float) -> bool:
    """Waits until the time has passed or the server is stopped; returns whether it was stopped."""
    if not seconds:
        return False
    try:
        await asyncio.wait_for(stopped.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _drain(connections: set[Connection], seconds: float) -> None:
    """Gives running requests this long to finish, then closes the remaining connections."""
    closed = [connection.close_when_idle() for connection in list(connections)]
    if closed:
        await asyncio.wait([asyncio.ensure_future(one) for one in closed], timeout=seconds)
    for connection in list(connections):
        connection.abort()


def main() -> None:
    options = parse_options(sys.argv[1:], os.environ)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s standin: %(message)s", stream=sys.stderr)
    try:
        listener = bind(options)
    except OSError as error:
        sys.exit(f"standin.py: --host {options.host} --port {options.port}: {error.strerror}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options, listener))


if __name__ == "__main__":
    main()
