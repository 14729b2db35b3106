"""The server: how it starts, drains and stops."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import pytest

from orchestrator.api.server import Server
from orchestrator.app import Orchestrator
from orchestrator.errors import SettingsError
from orchestrator.settings import Settings
from tests.support.live import live, until
from tests.support.scripted_engine import ScriptedEngine, after, stream, text, whole


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


async def test_draining_server_accepts_requests_and_closes_their_connections(engine: ScriptedEngine) -> None:
    async with live(engine.url, DRAIN_SECONDS="60", STOP_SECONDS="60") as running:
        assert "connection" not in (await running.http.get("/health")).headers
        running.server.stop()
        assert (await running.http.get("/health")).headers["connection"] == "close"
        assert accepts(running.port)
        running.server.stop()


async def test_server_that_does_not_drain_finishes_requests_but_accepts_no_more(
    engine: ScriptedEngine,
) -> None:
    go_on = asyncio.Event()
    async with live(engine.url, DRAIN_SECONDS="60", STOP_SECONDS="60") as running:
        engine.play(after(go_on, whole("finished")))
        asking = asyncio.create_task(running.chat())
        await engine.arrived.wait()
        running.server.stop(drain=False)
        await until(lambda: not accepts(running.port))
        go_on.set()
        assert (await asking).json()["choices"][0]["message"]["content"] == "finished"


async def test_second_stop_aborts_what_is_in_flight(engine: ScriptedEngine) -> None:
    async with live(engine.url, DRAIN_SECONDS="60", STOP_SECONDS="60") as running:
        engine.play(stream(*text("It "), asyncio.Event()))
        asking = asyncio.create_task(running.chat(stream=True))
        await engine.arrived.wait()
        running.server.stop()
        await until(lambda: running.server._ending is not None)
        running.server.stop()
        with pytest.raises(httpx.RemoteProtocolError):
            await asking


async def test_failed_start_closes_the_listening_sockets(tmp_path: Path) -> None:
    settings = Settings.from_environment({"API_KEYS_FILE": str(tmp_path / "missing")})
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(Orchestrator(settings), settings)
    with pytest.raises(SettingsError, match="API_KEYS_FILE"):
        await server.serve([listener])
    assert not server.started
    assert listener.fileno() == -1
