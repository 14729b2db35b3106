"""`python -m orchestrator`: environment -> Settings -> Orchestrator -> uvicorn."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import resource
import signal
import sys
from types import FrameType

import uvicorn

from .api.acceptor import Acceptor
from .api.http import HttpProtocol
from .api.in_flight import InFlight
from .app import Orchestrator
from .errors import SettingsError
from .settings import Settings
from .telemetry import configure_logging, log

_OTHER_FILES = 100


class Server(uvicorn.Server):
    """Stops gracefully: on SIGTERM it still accepts for a while, then lets finish what is under way."""

    def __init__(
        self, config: uvicorn.Config, acceptor: Acceptor, in_flight: InFlight, settings: Settings
    ) -> None:
        super().__init__(config)
        self._acceptor = acceptor
        self._in_flight = in_flight
        self._drain_seconds = settings.drain_seconds
        self._stop_seconds = settings.stop_seconds
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            listeners = [listener for server in self.servers for listener in server.sockets]
            for listener in listeners:
                self._acceptor.listen(listener.fileno())
            port = listeners[0].getsockname()[1]
            log.info("listening", extra={"fields": {"host": self.config.host, "port": port}})

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._acceptor.close()
        await super().shutdown(sockets)  # type: ignore[arg-type]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 (uvicorn's signature)
        """SIGTERM drains; Ctrl-C stops listening at once; a second signal of either kind ends everything."""
        loop = self._loop
        if self._in_flight.draining or loop is None:
            self.should_exit = self.force_exit = True
            return
        self._in_flight.draining = True
        drain = self._drain_seconds if sig == signal.SIGTERM else 0.0
        log.info("stopping", extra={"fields": {"in_flight": len(self._in_flight), "accept_seconds": drain}})
        loop.call_soon_threadsafe(loop.call_later, drain, self._stop_listening)
        loop.call_soon_threadsafe(loop.call_later, self._stop_seconds, self._in_flight.end_all)

    def _stop_listening(self) -> None:
        self.should_exit = True


def build_server(settings: Settings) -> Server:
    """The server, not yet started.

    Raises:
        SettingsError: a setting cannot be used.
    """
    app = Orchestrator(settings)
    acceptor = Acceptor(functools.partial(HttpProtocol, endpoints=app.endpoints))
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=acceptor,  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(settings.keep_alive_seconds),
        # What `end_all` ended has a moment to be told so.
        timeout_graceful_shutdown=int(settings.stop_seconds) + 5,
    )
    return Server(config, acceptor, app.in_flight, settings)


def raise_file_limit(max_in_flight: int) -> None:
    """Lets this process open as many files as it may; each request takes a connection on either side."""
    wanted = 2 * max_in_flight + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < wanted:
        fields = {"limit": possible, "wanted": wanted}
        log.warning("MAX_IN_FLIGHT needs more open files than the limit allows", extra={"fields": fields})


def main() -> int:
    """Serves until it is told to stop; 2 where a setting cannot be used."""
    try:
        settings = Settings.from_environment(os.environ)
        configure_logging(settings.log_level)
        raise_file_limit(settings.max_in_flight)
        server = build_server(settings)
    except SettingsError as error:
        print(f"orchestrator: {error}", file=sys.stderr)  # noqa: T201 (before there is a log)
        return 2
    # What has been made so far lives as long as the process: the collector need not look at it again.
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    server.run()
    return 0 if server.started else 2


if __name__ == "__main__":
    sys.exit(main())
