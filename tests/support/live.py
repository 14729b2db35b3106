"""Runs the orchestrator as in production, on a free port of 127.0.0.1, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import openai

from orchestrator.api.server import Server
from orchestrator.app import Orchestrator
from orchestrator.settings import Settings

Json = dict[str, Any]


class Live:
    """A running orchestrator and its clients."""

    def __init__(self, app: Orchestrator, server: Server, port: int) -> None:
        self.app = app
        self.server = server
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.AsyncClient(base_url=self.url, timeout=20)
        self.openai = openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key="dummy", max_retries=0, timeout=20
        )

    async def chat(
        self, content: str = "Hi", headers: dict[str, str] | None = None, **fields: Any
    ) -> httpx.Response:
        payload = {"model": "scripted", "messages": [{"role": "user", "content": content}], **fields}
        return await self.http.post("/v1/chat/completions", json=payload, headers=headers)

    async def chat_events(self, content: str = "Hi", **fields: Any) -> list[Json | str]:
        """Returns the events of a streamed chat: chunks as objects, comments and [DONE] as text."""
        return events_of((await self.chat(content, stream=True, **fields)).text)

    async def metrics(self) -> str:
        return (await self.http.get("/metrics")).text


def events_of(text: str) -> list[Json | str]:
    """Returns the comments and events of a stream in order."""
    found: list[Json | str] = []
    data: list[str] = []
    for line in [*text.split("\n"), ""]:
        if line.startswith(":"):
            found.append(line)
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif data and not line:
            payload = "\n".join(data)
            found.append(json.loads(payload) if payload.startswith("{") else payload)
            data = []
    return found


def text_of(events: list[Json | str]) -> str:
    """Returns the text that a client would assemble."""
    deltas = [
        event["choices"][0]["delta"] for event in events if isinstance(event, dict) and event.get("choices")
    ]
    return "".join(delta.get("content") or "" for delta in deltas)


async def until(condition: Callable[[], bool]) -> None:
    """Polls a condition that has no event to wait for, for at most 10 s."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def live(*engine_urls: str, **environment: str) -> AsyncIterator[Live]:
    """Starts the server with these settings, given by the names of their variables."""
    settings = Settings.from_environment(
        {
            "VLLM_URL": ",".join(engine_urls),
            "HOST": "127.0.0.1",
            "WEATHER_SOURCE": "sample",
            "ENGINE_REFRESH_SECONDS": "0.2",
            "DRAIN_SECONDS": "0",
            "STOP_SECONDS": "5",
            **environment,
        }
    )
    listener = socket.create_server(("127.0.0.1", 0))
    app = Orchestrator(settings)
    server = Server(app, settings)
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started:
        if serving.done():
            await serving
            raise RuntimeError("the server did not start")
        await asyncio.sleep(0.005)
    running = Live(app, server, listener.getsockname()[1])
    try:
        yield running
    finally:
        await running.http.aclose()
        await running.openai.close()
        server.stop(drain=False)
        await serving
