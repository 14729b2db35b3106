"""The load that engines report, read in the background and added up."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine import load as load_module
from orchestrator.engine.discovery import Discovery
from orchestrator.engine.load import Reading, parse
from standin_engine.arguments import parse_options
from standin_engine.scheduler import Scheduler
from tests.services.orchestrator.engine.test_discovery import watching
from tests.support.live import until
from tests.support.scripted_engine import Exchange, ScriptedEngine, body, scripted_engine

PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="Qwen/Qwen2.5-7B-Instruct"} %(running)s
vllm:num_requests_waiting{engine="0",model_name="Qwen/Qwen2.5-7B-Instruct"} %(waiting)s
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 77.0
vllm:kv_cache_usage_perc{engine="0",model_name="a } 9"} %(cache)s
vllm:prefix_cache_queries_total{engine="0"} %(queries)s
vllm:prefix_cache_queries_created{engine="0"} 1.7e+09
vllm:prefix_cache_hits_total{engine="0"} %(hits)s
vllm:num_preemptions_total{engine="0"} %(preemptions)s
vllm:request_success_total{engine="0",finished_reason="stop"} 5.0
"""
IDLE = {"running": 0.0, "waiting": 0.0, "cache": 0.0, "queries": 0.0, "hits": 0.0, "preemptions": 0.0}


def page(**values: float) -> str:
    return PAGE % (IDLE | values)


def show(engine: ScriptedEngine, **values: float) -> None:
    engine.pages["/metrics"] = body(page(**values).encode())


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "READ_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(load_module, "_AFTER_FAILURE_SECONDS", 0.05)
    monkeypatch.setattr(load_module, "_STALE_SECONDS", 60.0)


async def reported(known: Discovery, requests: float) -> None:
    await until(lambda: known.load().requests == requests)


def test_page_of_vllm_is_read() -> None:
    text = page(running=3.0, waiting=2.0, cache=0.25, queries=1e3, hits=400.0, preemptions=2.0)
    assert parse(text.encode()) == Reading(5.0, 0.25, (1000.0, 400.0, 2.0))


def test_processes_of_an_engine_are_added_up_and_the_fullest_cache_counts() -> None:
    two = page(running=3.0, cache=0.25, hits=1.0) + page(running=1.0, cache=0.75, hits=2.0).replace(
        '"0"', '"1"'
    )
    assert parse(two.encode()) == Reading(4.0, 0.75, (0.0, 3.0, 0.0))


@pytest.mark.parametrize(
    "text",
    ["", "<html>", "up 1\n", "vllm:num_requests_running NaN\n", "vllm:num_requests_running -1\n", "\0\xff"],
)
def test_page_without_numbers_is_ignored(text: str) -> None:
    assert parse(text.encode()) is None


@given(st.binary(max_size=300))
def test_any_page_is_read_or_ignored(text: bytes) -> None:
    reading = parse(b"vllm:num_requests_running " + text)
    assert reading is None or reading.requests >= 0


def test_page_of_unclosed_labels_is_read_in_linear_time() -> None:
    begun = time.perf_counter()
    assert parse(b"vllm:num_requests_running{" + 2_000_000 * b"} " + b"\n") is None
    assert time.perf_counter() - begun < 2


def test_page_of_the_stand_in_engine_is_read() -> None:
    scheduler = Scheduler(parse_options(["--model", "tiny"], {}))
    assert parse(scheduler.metrics().encode()) == Reading(0.0, 0.0, (0.0, 0.0, 0.0))


async def test_load_of_several_engines_is_added_up() -> None:
    async with scripted_engine() as one, scripted_engine() as two:
        show(one, running=3.0, waiting=1.0, cache=0.5)
        show(two, running=1.0, cache=0.9)
        async with watching(one.url, two.url, refresh=60) as known:
            await reported(known, 5.0)
            assert (known.load().up, known.load().kv_cache) == (2, 0.9)
            await two.stop()
            await until(lambda: known.load().up == 1)
            assert (known.load().requests, known.load().kv_cache) == (4.0, 0.5)


async def test_counters_are_those_since_the_service_started(engine: ScriptedEngine) -> None:
    show(engine, running=1.0, queries=1000.0, hits=500.0, preemptions=7.0)
    async with watching(engine.url, refresh=0.05) as known:
        await reported(known, 1.0)
        assert known.load().preemptions == 0
        show(engine, running=2.0, queries=1600.0, hits=700.0, preemptions=8.0)
        await reported(known, 2.0)
        load = known.load()
        assert (load.prefix_queries, load.prefix_hits, load.preemptions) == (600.0, 200.0, 1.0)


async def test_counters_of_an_engine_that_restarted_begin_at_zero(engine: ScriptedEngine) -> None:
    show(engine, running=1.0, queries=1000.0, hits=500.0, preemptions=7.0)
    async with watching(engine.url, refresh=0.05) as known:
        await reported(known, 1.0)
        show(engine, running=2.0, queries=10.0, hits=4.0, preemptions=1.0)
        await reported(known, 2.0)
        load = known.load()
        assert (load.prefix_queries, load.prefix_hits, load.preemptions) == (10.0, 4.0, 1.0)


async def test_engine_without_a_page_is_up_and_counts_with_its_requests_in_flight(
    engine: ScriptedEngine,
) -> None:
    async with watching(engine.url, refresh=0.05) as known:
        await until(lambda: known.load().up == 1)
        known.up()[0].in_flight = 3
        assert known.load().requests == 3.0
        known.up()[0].in_flight = 0


async def test_page_that_never_comes_does_not_take_the_engine_down(engine: ScriptedEngine) -> None:
    asked = asyncio.Event()
    over = asyncio.Event()

    async def hang(_: Exchange) -> None:
        asked.set()
        await over.wait()

    engine.pages["/metrics"] = hang
    known = Discovery([engine.url], api_key=None, connect_seconds=1, refresh_seconds=0.05, probe_seconds=0.1)
    await known.start()
    try:
        await asyncio.wait_for(asked.wait(), 10)
        probed = known.up()[0].models_at
        await until(lambda: known.up()[0].models_at > probed)
        assert known.load().up == 1
    finally:
        over.set()
        await known.close()
