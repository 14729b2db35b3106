"""Discovery of engines: names are resolved and engines are probed in the background."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.engine import discovery as discovery_module
from orchestrator.engine.discovery import Discovery
from tests.support.live import until
from tests.support.scripted_engine import ScriptedEngine, after, scripted_engine, whole

CHAT = "/v1/chat/completions"


@contextlib.asynccontextmanager
async def watching(*urls: str, refresh: float = 0.1) -> AsyncIterator[Discovery]:
    discovery = Discovery(urls, api_key=None, connect_seconds=1, refresh_seconds=refresh)
    await discovery.start()
    try:
        yield discovery
    finally:
        await discovery.close()


@pytest.fixture
async def second() -> AsyncIterator[ScriptedEngine]:
    async with scripted_engine() as running:
        yield running


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """The URL of a server that accepts connections and never answers."""
    over = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    over.set()
    server.close()


async def test_engine_that_hangs_does_not_delay_the_others(engine: ScriptedEngine, silent: str) -> None:
    port = engine.port
    await engine.stop()
    async with watching(silent, engine.url, refresh=60) as known:
        await until(lambda: len(known.up()) == 1)
        known.mark_down(known.up()[0], "for the test")
        await engine.start(port)
        begun = time.monotonic()
        await known.wait_until_up(30)
        assert time.monotonic() - begun < 2


async def test_slow_name_server_does_not_delay_the_engines(engine: ScriptedEngine, monkeypatch: Any) -> None:
    lookups = 0

    async def lookup(name: str, port: int) -> list[str]:
        nonlocal lookups
        lookups += 1
        if lookups > 1:
            await asyncio.Event().wait()
        return ["127.0.0.1"]

    monkeypatch.setattr(discovery_module, "lookup", lookup)
    async with watching(f"http://engine.internal:{engine.port}", refresh=0.01) as known:
        await until(lambda: lookups == 2)
        (address,) = known._addresses.values()
        known.mark_down(address, "for the test")
        begun = time.monotonic()
        await known.wait_until_up(30)
        assert time.monotonic() - begun < 2


async def test_connections_to_a_removed_address_are_not_kept(
    engine: ScriptedEngine, monkeypatch: Any
) -> None:
    hosts = ["127.0.0.1"]

    async def lookup(name: str, port: int) -> list[str]:
        return list(hosts)

    monkeypatch.setattr(discovery_module, "lookup", lookup)
    async with watching(f"http://engine.internal:{engine.port}", refresh=0.01) as known:
        (address,) = known.up()
        may_end = asyncio.Event()
        engine.play(after(may_end, whole("fine")))
        asking = asyncio.create_task(address.post(CHAT, b"{}"))
        await engine.arrived.wait()
        hosts[:] = ["127.0.0.2"]
        await until(lambda: address.gone)
        may_end.set()
        (await asking).close()
        assert address.idle == []


async def test_names_are_resolved_repeatedly(
    engine: ScriptedEngine, second: ScriptedEngine, monkeypatch: Any
) -> None:
    found: list[str] = ["127.0.0.1"]

    async def lookup(name: str, port: int) -> list[str]:
        assert name == "vllm.internal"
        if not found:
            raise OSError("no such name")
        return found

    monkeypatch.setattr(discovery_module, "lookup", lookup)
    async with watching(f"http://vllm.internal:{engine.port}") as known:
        assert [state.engine for state in known.states()] == [f"127.0.0.1:{engine.port}"]
        found[:] = ["127.0.0.1", "127.0.0.2"]
        await until(lambda: len(known.states()) == 2)
        found.clear()
        await known._resolve()
        assert len(known.states()) == 2
        found[:] = ["127.0.0.2"]
        await until(lambda: len(known.states()) == 1)


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("engine.internal:{port}", "engine.internal:{port}"),
        ("Engine_1:{port}", "Engine_1:{port}"),
        ("bücher.test:{port}", "xn--bcher-kva.test:{port}"),
        ("127.0.0.1:{port}", "127.0.0.1:{port}"),
    ],
)
async def test_engine_sees_the_urls_authority(
    engine: ScriptedEngine, monkeypatch: Any, authority: str, host: str
) -> None:
    async def lookup(name: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(discovery_module, "lookup", lookup)
    async with watching(f"http://{authority.format(port=engine.port)}") as known:
        engine.play(whole("fine"))
        with await known.up()[0].post(CHAT, b"{}"):
            pass
    assert engine.requests[0].headers["host"] == host.format(port=engine.port)


async def test_host_has_no_port_where_the_url_has_none(engine: ScriptedEngine, monkeypatch: Any) -> None:
    async def lookup(name: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(discovery_module, "lookup", lookup)
    async with watching("http://engine.internal") as known:
        (address,) = known._addresses.values()
        address._port = engine.port
        engine.play(whole("fine"))
        with await address.post(CHAT, b"{}"):
            pass
    assert engine.requests[0].headers["host"] == "engine.internal"


async def test_name_that_does_not_resolve_is_reported(monkeypatch: Any) -> None:
    async def lookup(name: str, port: int) -> list[str]:
        raise OSError("no such name")

    monkeypatch.setattr(discovery_module, "lookup", lookup)
    async with watching("http://vllm.internal:8000") as known:
        assert "vllm.internal:8000: the name does not resolve. Set VLLM_URL" in (known.why_not_ready() or "")
        with pytest.raises(TimeoutError):
            await known.wait_until_up(0.1)


async def test_localhost_counts_as_one_engine(engine: ScriptedEngine) -> None:
    async with watching(f"http://localhost:{engine.port}") as known:
        assert [state.engine for state in known.states()] == [f"127.0.0.1:{engine.port}"]


async def test_ready_reports_an_engine_that_rejects_the_key(engine: ScriptedEngine, monkeypatch: Any) -> None:
    monkeypatch.setattr(engine, "models", {"error": "Unauthorized"})
    async with watching(engine.url) as known:
        (address,) = known._addresses.values()
        known._take_models(address, 401, b"")
        address.known = True
        assert "VLLM_API_KEY" in (known.why_not_ready() or "")


async def test_name_that_does_not_resolve_is_logged_once(
    monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lookups = 0

    async def lookup(name: str, port: int) -> list[str]:
        nonlocal lookups
        lookups += 1
        if lookups == 5:
            return ["127.0.0.1"]
        raise OSError("no such name")

    monkeypatch.setattr(discovery_module, "lookup", lookup)
    async with watching("http://engine.internal:9", refresh=0.01):
        await until(lambda: lookups > 8)
    logged = [record.message for record in caplog.records if record.message == "name not resolved"]
    assert len(logged) == 2  # before and after it resolved
