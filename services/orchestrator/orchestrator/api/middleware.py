"""Request ids, metrics and logs for the FastAPI routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI

from ..telemetry import Record, Telemetry
from .endpoint import request_id
from .in_flight import InFlight

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# Load balancers and scrapers ask for these every few seconds.
_QUIET = frozenset({"/health", "/ready", "/metrics", "/v1/models"})


class RequestTelemetry:
    """Wraps the FastAPI app; a pure ASGI callable, since Starlette's own middleware base buffers streams."""

    def __init__(self, app: FastAPI, in_flight: InFlight, telemetry: Telemetry) -> None:
        self._app = app
        self._in_flight = in_flight
        self._telemetry = telemetry
        self._known = {getattr(route, "path", "") for route in app.routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        route = "/v1/models/{model}" if path.startswith("/v1/models/") else path
        if path not in self._known and route == path:
            route = "unknown"
        record = Record(request_id(dict(scope["headers"])), route)

        async def send_with_id(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                extra = [(b"x-request-id", record.request_id.encode("latin-1"))]
                if self._in_flight.draining:
                    extra.append((b"connection", b"close"))
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            quiet = path in _QUIET and record.status < 400
            self._telemetry.finished(record, quiet=quiet)
