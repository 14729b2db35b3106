"""Adapters that engines load while they run: a name counts if every engine has it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine import adapters as adapters_module
from orchestrator.engine.adapters import MOST_ADAPTERS, EngineAdapters
from orchestrator.engine.address import Address
from orchestrator.memory import Budget
from tests.support.live import Live, live, until
from tests.support.scripted_engine import Exchange, ScriptedEngine, body, scripted_engine, whole
from tests.support.several_models import setting

LARGE: dict[str, Any] = {"model": "large", "aliases": ["gpt-4o"], "adapters": ["own"], "loads_adapters": True}
FAST = {"ENGINE_REFRESH_SECONDS": "0.02"}


def lists(engine: ScriptedEngine, *adapters: str, model: str = "large") -> None:
    """Lets an engine list a model and these adapters of it, as vLLM does."""
    engine.models["data"] = [
        {"id": model, "object": "model", "parent": None},
        *({"id": name, "object": "model", "parent": model, "root": f"/tmp/{name}"} for name in adapters),
    ]


class Two:
    """A server in front of two engines of one model."""

    def __init__(self, server: Live, engines: tuple[ScriptedEngine, ScriptedEngine]) -> None:
        self.server = server
        self.first, self.second = engines
        self.fleets = server.app._fleets

    @property
    def adapters(self) -> frozenset[str]:
        return self.fleets.first.adapters

    async def until_up(self, engines: int) -> None:
        discovery = self.fleets.first.discovery
        await until(lambda: [one.known for one in discovery.up()] == [True] * engines)

    async def ask(self, name: str) -> httpx.Response:
        return await self.server.chat(model=name)


@contextlib.asynccontextmanager
async def two_engines(
    first: tuple[str, ...] = (), second: tuple[str, ...] = (), **changes: Any
) -> AsyncIterator[Two]:
    async with scripted_engine() as one, scripted_engine() as other:
        lists(one, *first)
        lists(other, *second)
        model = {**LARGE, "url": f"{one.url},{other.url}", **changes}
        async with live(
            MODELS=setting(model, {"model": "small", "url": "http://127.0.0.1:9"}), **FAST
        ) as server:
            yield Two(server, (one, other))


async def test_name_counts_once_every_engine_has_it() -> None:
    async with two_engines(("own", "tone", "sql"), ("own", "tone")) as two:
        await until(lambda: two.adapters == {"own", "tone"})
        listed = {one["id"]: one for one in (await two.server.http.get("/v1/models")).json()["data"]}
        assert listed["tone"]["parent"] == "large"
        assert "sql" not in listed
        two.first.otherwise = two.second.otherwise = whole("ok")
        assert (await two.ask("tone")).status_code == 200
        assert [one.json["model"] for one in (*two.first.requests, *two.second.requests)] == ["tone"]
        missing = await two.ask("sql")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
        lists(two.second, "own", "tone", "sql")
        await until(lambda: "sql" in two.adapters)
        assert (await two.ask("sql")).status_code == 200


async def test_removed_name_is_unknown_again_with_the_nearest_ones() -> None:
    async with two_engines(("tone", "tune"), ("tone", "tune")) as two:
        await until(lambda: two.adapters == {"own", "tone", "tune"})
        lists(two.first, "tune")
        await until(lambda: two.adapters == {"own", "tune"})
        missing = await two.ask("tone")
        assert missing.status_code == 404
        assert "did you mean tune" in missing.json()["error"]["message"]
        assert not two.first.requests


async def test_engine_that_starts_gets_no_requests_before_its_adapters() -> None:
    async with two_engines(("tone",), ("tone",)) as two:
        await until(lambda: two.adapters == {"own", "tone"})
        port = two.second.port
        await two.second.stop()
        await two.until_up(1)
        lists(two.second)
        asked = 0

        async def listing(exchange: Exchange) -> None:
            nonlocal asked
            asked += 1
            await body(two.second.models)(exchange)

        two.second.pages["/v1/models"] = listing
        await two.second.start(port)
        await until(lambda: asked == 3)
        two.first.otherwise = whole("ok")
        for _ in range(4):
            assert (await two.ask("tone")).status_code == 200
        assert two.adapters == {"own", "tone"}
        assert len(two.fleets.first.discovery.up()) == 1
        lists(two.second, "tone")
        await two.until_up(2)
        assert two.adapters == {"own", "tone"}


async def test_engine_that_never_gets_an_adapter_serves_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_engines(("tone",), ("tone",)) as two:
        await until(lambda: two.adapters == {"own", "tone"})
        monkeypatch.setattr(adapters_module, "LOADING_SECONDS", 0.2)
        port = two.second.port
        await two.second.stop()
        await two.until_up(1)
        lists(two.second)
        await two.second.start(port)
        await two.until_up(2)
        await until(lambda: two.adapters == {"own"})


async def test_without_an_engine_the_names_stay_so_that_requests_wait() -> None:
    async with two_engines(("tone",), ("tone",)) as two:
        await until(lambda: two.adapters == {"own", "tone"})
        ports = [engine.port for engine in (two.first, two.second)]
        for engine in (two.first, two.second):
            await engine.stop()
        await two.until_up(0)
        assert two.adapters == {"own", "tone"}
        two.first.otherwise = two.second.otherwise = whole("ok")
        for engine, port in zip((two.first, two.second), ports, strict=True):
            await engine.start(port)
        assert (await two.ask("tone")).status_code == 200


async def test_name_that_is_missing_once_stays() -> None:
    async with two_engines(("tone",), ("tone",)) as two:
        await until(lambda: two.adapters == {"own", "tone"})
        loaded = two.fleets.first.loaded
        assert loaded
        address = two.fleets.first.discovery.up()[0]
        loaded.read(address, [])
        loaded.renew(two.fleets.first.discovery.up())
        assert "tone" in loaded.names


async def test_adapters_hide_no_other_name() -> None:
    names = ("gpt-4o", "small", "large", "tone")
    async with two_engines(names, names) as two:
        await until(lambda: two.adapters == {"own", "tone"})
        assert two.fleets.names["small"][0] is not two.fleets.first
        assert two.fleets.names["gpt-4o"] == (two.fleets.first, "large")


async def test_models_without_the_setting_have_the_configured_adapters() -> None:
    async with two_engines(("tone",), ("tone",), loads_adapters=False) as two:
        await two.until_up(2)
        discovery = two.fleets.first.discovery
        await until(lambda: len(discovery.models or ()) == 2)
        assert two.adapters == {"own"}
        assert two.fleets.first.loaded is None


async def test_of_two_models_the_first_one_s_adapter_counts() -> None:
    async with scripted_engine() as one, scripted_engine() as other:
        lists(one)
        lists(other, "tone", model="small")
        models = [
            {"model": "large", "url": one.url, "loads_adapters": True},
            {"model": "small", "url": other.url, "loads_adapters": True},
        ]
        async with live(MODELS=json.dumps(models), **FAST) as server:
            large, small = server.app._fleets
            await until(lambda: small.adapters == {"tone"})
            lists(one, "tone")
            await until(lambda: large.adapters == {"tone"})
            assert small.adapters == frozenset()
            lists(one)
            await until(lambda: small.adapters == {"tone"})


def address(number: int = 0) -> Address:
    one = Address(
        f"10.0.0.{number}", 8000, authority="x", name="x", tls=None, connect_seconds=1, headers=(b"",),
        budget=Budget(1000), max_answer_bytes=1000,
    )  # fmt: skip
    one.known = True
    return one


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(("id", "parent", "x")), inner),
)


@given(models=st.lists(JSON, max_size=20))
def test_whatever_an_engine_lists_only_names_count(models: list[Any]) -> None:
    loaded, engine = EngineAdapters(), address()
    loaded.read(engine, models)
    loaded.renew([engine])
    expected = {
        one["id"]
        for one in models
        if isinstance(one, dict) and isinstance(one.get("id"), str) and isinstance(one.get("parent"), str)
    }
    assert loaded.names <= expected


def test_number_of_names_is_bounded() -> None:
    loaded, engine = EngineAdapters(), address()
    loaded.read(engine, [{"id": f"a{number}", "parent": "m"} for number in range(2 * MOST_ADAPTERS)])
    loaded.renew([engine])
    assert len(loaded.names) == MOST_ADAPTERS


@given(
    listed=st.lists(st.frozensets(st.sampled_from("abcdef")), min_size=1, max_size=6),
    down=st.sets(st.integers(0, 5)),
)
def test_names_are_those_of_all_engines_that_are_up(listed: list[frozenset[str]], down: set[int]) -> None:
    loaded = EngineAdapters()
    engines = [address(number) for number in range(len(listed))]
    for engine, names in zip(engines, listed, strict=True):
        loaded.read(engine, [{"id": name, "parent": "m"} for name in names])
    loaded.renew(engines)
    assert loaded.names == frozenset.intersection(*listed)
    up = [number for number in range(len(listed)) if number not in down]
    loaded.renew([engines[number] for number in up])
    assert loaded.names == frozenset.intersection(*(listed[number] for number in (up or range(len(listed)))))
