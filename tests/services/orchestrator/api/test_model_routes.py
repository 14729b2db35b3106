"""The list of several models, and the state of each. Of a single model: test_routes.py."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.live import Live, until
from tests.support.several_models import several_models

LARGE = {"model": "org/large", "aliases": ["gpt-4o"], "adapters": ["tone"]}
BGE = {"model": "bge", "kind": "embedding"}
NOWHERE = "http://127.0.0.1:9"


async def listed(server: Live) -> dict[str, Any]:
    return {one["id"]: one for one in (await server.http.get("/v1/models")).json()["data"]}


async def settled(server: Live) -> None:
    """Waits until each engine has answered or is known to be down."""
    fleets = list(server.app._fleets)
    await until(lambda: all(fleet.ready or not fleet.discovery.up() for fleet in fleets))


async def test_the_list_is_the_union_with_the_state_and_kind_of_each() -> None:
    asleep = {"model": "asleep", "url": NOWHERE, "startup_seconds": 100}
    async with several_models(LARGE, BGE, asleep) as models:
        models.engines["org/large"].models["data"] = [
            {"id": "org/large", "object": "model", "max_model_len": 4096, "owned_by": "vllm"},
            {"id": "tone", "object": "model", "parent": "org/large", "root": "/adapters/tone"},
            {"id": "not-configured", "object": "model"},
        ]
        large = models.server.app._fleets.first
        await until(lambda: len(large.discovery.models or ()) == 3)
        await settled(models.server)
        found = await listed(models.server)
        assert list(found) == ["org/large", "gpt-4o", "tone", "bge", "asleep"]
        assert found["org/large"]["max_model_len"] == found["gpt-4o"]["max_model_len"] == 4096
        assert found["gpt-4o"]["tandem"] == {"state": "ready", "kind": "chat", "alias_of": "org/large"}
        assert found["tone"]["parent"] == "org/large"
        assert found["bge"]["tandem"] == {"state": "ready", "kind": "embedding"}
        assert found["asleep"]["tandem"] == {"state": "sleeping", "kind": "chat", "expected_seconds": 100}
        assert {one.id async for one in models.server.openai.models.list()} == set(found)


@pytest.mark.parametrize("name", ["org/large", "gpt-4o", "tone"])
async def test_one_model_is_found_by_any_of_its_names(name: str) -> None:
    async with several_models(LARGE, BGE) as models:
        assert (await models.server.openai.models.retrieve(name)).id == name
        missing = await models.server.http.get(f"/v1/models/{name}x")
        assert missing.status_code == 404
        assert f"did you mean {name}" in missing.json()["error"]["message"]


async def test_ready_if_any_model_is_and_each_has_its_reason() -> None:
    async with several_models({**LARGE, "url": NOWHERE}, BGE) as models:
        await settled(models.server)
        answer = await models.server.http.get("/ready")
        assert answer.status_code == 200
        states = answer.json()["models"]
        assert states["bge"] == {"status": "ready", "state": "ready", "control_tokens": "unknown"}
        assert states["org/large"]["status"] == "not ready"
        assert "127.0.0.1:9" in states["org/large"]["reason"]
        await models.engines["bge"].stop()
        bge = models.server.app._fleets.names["bge"][0]
        await until(lambda: not bge.ready)
        nobody = await models.server.http.get("/ready")
        assert (nobody.status_code, nobody.json()["status"]) == (503, "not ready")
        await models.engines["bge"].start(models.engines["bge"].port)
