"""A live stand-in engine for each test, on a free port of 127.0.0.1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import httpx
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from standin import bind
from standin_engine.app import App
from standin_engine.arguments import parse_options
from standin_engine.server import Connection

TOOL_FLAGS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")


@dataclass
class Standin:
    """A server in the test's own process and event loop."""

    url: str
    app: App
    connections: set[Connection]
    http: httpx.AsyncClient

    async def metric(self, name: str, **labels: str) -> float:
        """Returns a value of /metrics by its name and its labels other than the model's."""
        page = (await self.http.get("/metrics")).text
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        (line,) = [
            line
            for line in page.splitlines()
            if line.startswith(f"vllm:{name}{{") and all(label in line for label in wanted)
        ]
        return float(line.rpartition(" ")[2])

    async def becomes(self, value: float, name: str, **labels: str) -> None:
        """Polls a metric until it has this value. The test's timeout bounds the wait."""
        while await self.metric(name, **labels) != value:
            pass


def openai_client(standin: Standin) -> AsyncOpenAI:
    """Creates the official client for a stand-in, without retries."""
    http = DefaultAsyncHttpxClient(timeout=30, verify=False, trust_env=False)
    return AsyncOpenAI(base_url=f"{standin.url}/v1", api_key="unused", max_retries=0, http_client=http)


Start = Callable[..., Awaitable[Standin]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts stand-ins with the given arguments of `vllm serve`."""
    started: list[tuple[asyncio.Server, Standin]] = []

    async def begin(*arguments: str, environ: Mapping[str, str] | None = None) -> Standin:
        given = ["tiny-trained", "--served-model-name=tiny", "--host", "127.0.0.1", "--port", "0", *arguments]
        options = parse_options(given, environ or {})
        listener = bind(options)
        app, connections = App(options), set[Connection]()
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(app, connections), sock=listener
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # Without verify=False the client takes 30 ms to build a TLS context that is not needed here.
        http = httpx.AsyncClient(base_url=url, timeout=30, verify=False, trust_env=False)
        standin = Standin(url, app, connections, http)
        started.append((server, standin))
        return standin

    yield begin
    for server, standin in started:
        await standin.http.aclose()
        server.close()
        for connection in list(standin.connections):
            connection.abort()
        await server.wait_closed()


@pytest.fixture
async def standin(start: Start) -> Standin:
    """A stand-in with tool calling enabled."""
    return await start(*TOOL_FLAGS, "--max-model-len", "1024")


@pytest.fixture
async def client(standin: Standin) -> AsyncIterator[AsyncOpenAI]:
    """The official client, connected to that stand-in."""
    async with openai_client(standin) as openai:
        yield openai


@pytest.fixture
def http(standin: Standin) -> httpx.AsyncClient:
    """A plain HTTP client, connected to that stand-in."""
    return standin.http
