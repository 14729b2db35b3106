"""Loading and unloading through vLLM's routes, as the stand-in has them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine_start.adapters import CONFIG, WEIGHTS
from engine_start.engine_adapters import EngineAdapters, Rejected

from ..conftest import Standin, Start

KEY = {"Authorization": "Bearer secret"}
ALLOWED = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_API_KEY": "secret"}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    for name in (CONFIG, WEIGHTS):
        (tmp_path / name).write_bytes(b"{}")
    return tmp_path


async def listed(standin: Standin) -> dict[str, str | None]:
    models = (await standin.http.get("/v1/models", headers=KEY)).json()["data"]
    return {one["id"]: one["parent"] for one in models}


async def test_adapter_comes_and_goes(start: Start, adapter: Path) -> None:
    standin = await start(environ=ALLOWED)
    engine = EngineAdapters(standin.url, "secret")
    await asyncio.to_thread(engine.load, "tone", adapter)
    assert await listed(standin) == {"tiny": None, "tone": "tiny"}
    body = {"model": "tone", "messages": [{"role": "user", "content": "Hi"}]}
    assert (await standin.http.post("/v1/chat/completions", json=body, headers=KEY)).json()["model"] == "tone"
    await asyncio.to_thread(engine.unload, "tone")
    await asyncio.to_thread(engine.unload, "tone")  # which is gone already
    assert await listed(standin) == {"tiny": None}
    assert (await standin.http.post("/v1/chat/completions", json=body, headers=KEY)).status_code == 404


async def test_reason_of_a_rejection_is_the_engine_s(start: Start, adapter: Path) -> None:
    standin = await start(environ=ALLOWED)
    engine = EngineAdapters(standin.url, "secret")
    with pytest.raises(Rejected, match="'tiny' conflicts with a served base model"):
        await asyncio.to_thread(engine.load, "tiny", adapter)
    with pytest.raises(Rejected, match="No adapter found for"):
        await asyncio.to_thread(engine.load, "tone", adapter / "nowhere")
    with pytest.raises(Rejected, match="status 401"):
        await asyncio.to_thread(EngineAdapters(standin.url, None).load, "tone", adapter)


async def test_engine_that_does_not_change_adapters(start: Start, adapter: Path) -> None:
    standin = await start(environ={"VLLM_API_KEY": "secret"})
    with pytest.raises(Rejected, match="status 404"):
        await asyncio.to_thread(EngineAdapters(standin.url, "secret").load, "tone", adapter)


def test_engine_that_is_gone(adapter: Path) -> None:
    engine = EngineAdapters("http://127.0.0.1:9", None)
    with pytest.raises(OSError, match="refused"):
        engine.load("tone", adapter)
    with pytest.raises(OSError, match="refused"):
        engine.unload("tone")
