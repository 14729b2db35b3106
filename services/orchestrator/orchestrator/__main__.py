"""`python -m orchestrator`: environment -> Settings -> Orchestrator -> Server."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Coroutine

import uvloop

from .api.server import Server
from .app import Orchestrator
from .errors import SettingsError
from .settings import Settings
from .telemetry import configure_logging, log

_OTHER_FILES = 100


def raise_file_limit(max_in_flight: int) -> None:
    """Raises the limit on open files as far as needed: each request uses a connection on either side."""
    wanted = 2 * max_in_flight + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < wanted:
        fields = {"limit": possible, "wanted": wanted}
        log.warning("MAX_IN_FLIGHT needs more open files than the limit allows", extra={"fields": fields})


async def serve(settings: Settings) -> None:
    """Serves until a signal: SIGTERM drains, SIGINT (Ctrl-C) does not, and a second signal ends everything.

    Raises:
        SettingsError: a setting cannot be used.
        OSError: the server cannot listen on the port.
    """
    server = Server(Orchestrator(settings), settings)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.stop)
    loop.add_signal_handler(signal.SIGINT, lambda: server.stop(drain=False))
    # Everything created so far lives as long as the process, so the collector need not look at it again.
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    await server.serve()


def run_until_done(loop: asyncio.AbstractEventLoop, serving: Coroutine[None, None, None]) -> None:
    """Runs the server to its end, and goes on if a task or callback that a tool has started exits."""
    task = loop.create_task(serving)
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt):
            if not task.done():
                log.exception("a task tried to end the process")
    task.result()


def main() -> int:
    """Serves until a signal stops the process. Returns 2 if a setting cannot be used."""
    try:
        settings = Settings.from_environment(os.environ)
        configure_logging(settings.log_level)
        raise_file_limit(settings.max_in_flight)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            run_until_done(runner.get_loop(), serve(settings))
    except (SettingsError, OSError) as error:
        print(f"orchestrator: {error}", file=sys.stderr)  # noqa: T201 (there may be no log yet)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
