"""The bridge to the FastAPI app, which serves the routes that are rarely requested."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from fastapi import FastAPI

from .auth import OPEN_ROUTES
from .endpoint import Endpoint
from .reply import Reply
from .request import Request

Message = MutableMapping[str, Any]

# Load balancers and scrapers request these every few seconds.
_QUIET = frozenset({"/health", "/ready", "/metrics", "/v1/models"})


class AsgiBridge:
    """A handler that calls an ASGI application and writes its answer once it is complete."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, request: Request, reply: Reply) -> None:
        received: list[Message] = [{"type": "http.request", "body": request.body, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            return received.pop() if received else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(_scope(request), receive, send)
        start, *parts = sent
        headers = {name.lower(): value for name, value in start.get("headers", ())}
        headers.pop(b"content-length", None)
        reply.whole(
            start["status"],
            b"".join([part.get("body", b"") for part in parts]),
            headers.pop(b"content-type", b"application/json"),
            headers.items(),
        )


def asgi_endpoints(app: FastAPI, endpoint: Callable[..., Endpoint]) -> list[Endpoint]:
    """Returns an endpoint for each route of the app.

    Args:
        endpoint: creates an endpoint from its route, handler and options.
    """
    bridge = AsgiBridge(app)
    found = []
    for route in app.routes:
        name = str(getattr(route, "path", "")).replace(":path}", "}")
        options = {"needs_key": name not in OPEN_ROUTES, "quiet": name in _QUIET}
        found.append(endpoint(name, bridge, methods=(b"GET", b"HEAD"), limited=False, **options))
    return found


def _scope(request: Request) -> Message:
    head = request.head
    path = head.path
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1" if head.http_1_1 else "1.0",
        "method": "GET" if head.method == b"HEAD" else head.method.decode(),
        "scheme": "http",
        "path": path.decode(errors="replace"),
        "raw_path": path,
        "query_string": head.query,
        "root_path": "",
        "headers": head.fields,
        "client": None,
        "server": None,
        "state": {"account": request.account},
    }
