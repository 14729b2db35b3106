"""Routes of vLLM that change adapters are reached from the engine's container only."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine_start.adapter_routes import AdapterRoutes, Message, Receive, Send

HERE, OTHER = ("127.0.0.1", 5), ("10.0.3.7", 5)


async def status(path: str, client: tuple[str, int] | None, kind: str = "http") -> int:
    sent: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": kind, "path": path, "client": client}
    await AdapterRoutes(app)(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("path", "client", "expected"),
    [
        ("/v1/load_lora_adapter", HERE, 200),
        ("/v1/unload_lora_adapter", ("::1", 5), 200),
        ("/v1/unload_lora_adapter", ("::ffff:127.0.0.1", 5), 200),
        ("/v1/load_lora_adapter", OTHER, 404),
        ("/v1/unload_lora_adapter", ("fd00::7", 5), 404),
        ("/root/v1/load_lora_adapter", OTHER, 404),
        ("/v1/load_lora_adapter", None, 404),
        ("/v1/load_lora_adapter", ("testclient", 5), 404),
        ("/adapters", HERE, 404),
        ("/adapters/tone", HERE, 404),
        ("/adapters", OTHER, 404),
        ("/v1/chat/completions", OTHER, 200),
        ("/v1/models", OTHER, 200),
        ("/health", OTHER, 200),
    ],
)
async def test_who_reaches_what(path: str, client: tuple[str, int] | None, expected: int) -> None:
    assert await status(path, client) == expected


async def test_events_of_the_server_pass() -> None:
    seen = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.set()

    async def nothing(*_: object) -> Any: ...

    await AdapterRoutes(app)({"type": "lifespan"}, nothing, nothing)
    assert seen.is_set()
