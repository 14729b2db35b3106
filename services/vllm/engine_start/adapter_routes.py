"""Keeps vLLM's routes that change adapters to the container of the engine.

vLLM opens them all with VLLM_ALLOW_RUNTIME_LORA_UPDATING: those below /v1, which its key protects, and
/adapters, which it does not. This module runs inside of vLLM (`--middleware`), so it imports no other module
of this package.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_FROM_HERE = "load_lora_adapter"
_FOR_NOBODY = "/adapters"


class AdapterRoutes:
    """ASGI middleware: the routes do not exist for other hosts, and /adapters exists for nobody."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 404."""
        path = scope.get("path") or ""
        if _FOR_NOBODY in path or (_FROM_HERE in path and not _is_from_here(scope)):
            await _not_found(send)
        else:
            await self._app(scope, receive, send)


def _is_from_here(scope: Message) -> bool:
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0]) if client else None
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool(address and (mapped or address).is_loopback)


async def _not_found(send: Send) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"detail":"Not Found"}'})
