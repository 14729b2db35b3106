"""The server: listens, and stops without losing requests that a load balancer still sends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Sequence
from typing import Protocol

from ..settings import Settings
from ..telemetry import Telemetry
from .acceptor import Acceptor, listen
from .connections import Connections, Limits
from .http import HttpConnection
from .in_flight import InFlight
from .router import Router

log = logging.getLogger("orchestrator")

IDLE_SECONDS = 5.0
_END_SECONDS = 5.0


class Service(Protocol):
    """The service that the server runs."""

    router: Router
    in_flight: InFlight
    telemetry: Telemetry

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class Server:
    """Serves until it is stopped.

    It stops in four steps. For `drain_seconds` it accepts everything, and answers close connections.
    Then it stops listening. Idle connections stay open for another `IDLE_SECONDS`: by then, a proxy no longer
    sends requests here, and a request that was sent at the moment of closing would be lost. Current requests
    may finish until `stop_seconds` after the beginning.

    Attributes:
        started: whether the server is listening or has listened.
    """

    def __init__(self, service: Service, settings: Settings) -> None:
        self.service = service
        self.connections = Connections(Limits.of(settings))
        self.started = False
        self._settings = settings
        self._stopping = asyncio.Event()
        self._drain_seconds = settings.drain_seconds
        self._ending: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> InFlight:
        return self.service.in_flight

    async def serve(self, listeners: Sequence[socket.socket] | None = None) -> None:
        """Serves requests and returns after the server has stopped.

        Args:
            listeners: sockets to use instead of HOST and PORT.

        Raises:
            SettingsError: the service cannot start.
            OSError: the server cannot listen.
        """
        settings = self._settings
        listeners = listeners or listen(settings.host, settings.port)
        loop = asyncio.get_running_loop()
        try:
            await self.service.start()
            self.connections.start()
            acceptor = Acceptor(listeners, self._connection, self.service.telemetry, self.connections.relieve)
            acceptor.start()
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        self.started = True
        self._log_start(listeners[0].getsockname()[1])
        await self._stopping.wait()
        self._ending = loop.create_task(self._end(acceptor))
        with contextlib.suppress(asyncio.CancelledError):
            await self._ending
        self.connections.abort_all()
        await self.connections.none_open()
        self.connections.close()
        await self.service.close()

    def stop(self, *, drain: bool = True) -> None:
        """Starts to stop the server. The second call ends it at once.

        Args:
            drain: whether to keep accepting requests for a while.
        """
        if self._ending is not None:
            self._ending.cancel()
            return
        if not drain:
            self._drain_seconds = 0.0
        if not self._stopping.is_set():
            self._stopping.set()
            self.in_flight.draining = True
            fields = {"in_flight": len(self.in_flight), "accept_seconds": self._drain_seconds}
            log.info("stopping", extra={"fields": fields})

    async def _end(self, acceptor: Acceptor) -> None:
        loop = asyncio.get_running_loop()
        stop_seconds = self._settings.stop_seconds
        loop.call_later(stop_seconds, self.in_flight.end_all)
        # Gives clients a moment to receive the errors.
        loop.call_later(stop_seconds + _END_SECONDS, self.connections.abort_all)
        drains = self._drain_seconds > 0
        try:
            await asyncio.sleep(self._drain_seconds)
        finally:
            await acceptor.close(wait=drains)
        self.connections.close_idle(IDLE_SECONDS if drains else 0.0)
        await self.connections.none_open()

    def _log_start(self, port: int) -> None:
        """Logs the two messages of uvicorn that the deployment guide says to wait for."""
        host = self._settings.host
        log.info("Application startup complete")
        guide = f"Uvicorn running on http://{host}:{port}"
        log.info("listening", extra={"fields": {"host": host, "port": port, "in_the_guide": guide}})

    def _connection(self) -> HttpConnection:
        return HttpConnection(self.connections, self.service.router, asyncio.get_running_loop())
