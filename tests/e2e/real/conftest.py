"""vLLM with the tiny model on the CPU, and an orchestrator in front of it, once for the whole suite."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.clients.support import Client, settle
from tests.e2e.engine.serve import MODEL_NAME, RealEngine
from tests.e2e.engine.train.names import HELD_OUT_PLACES
from tests.support.openmeteo import OpenMeteo, running_open_meteo
from tests.support.otlp import Collector, collector_in_thread
from tests.support.processes import MODEL, Processes, Service

PYTHON = Path(os.environ.get("VLLM_PYTHON", ".venv-vllm/bin/python"))


@pytest.fixture(scope="session")
def traces() -> Iterator[Collector]:
    with collector_in_thread() as running:
        yield running


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory, traces: Collector) -> Iterator[RealEngine]:
    log = tmp_path_factory.mktemp("engine") / "engine.log"
    # The client suite requests the users' default model; here the tiny one also answers to that name.
    names = ("--served-model-name", MODEL_NAME, MODEL)
    running = RealEngine(PYTHON, log, flags=names, collector=traces.url)
    running.start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def open_meteo() -> Iterator[OpenMeteo]:
    """A local Open-Meteo with the places that the model has never seen, each with its own temperature."""
    with running_open_meteo() as service:
        numbers = itertools.count(1)
        service.places = [
            {"name": name, "admin1": region, "country": country, "country_code": "XX",
             "latitude": number / 2, "longitude": number / 3}
            for (name, region, country), number in zip(HELD_OUT_PLACES, numbers, strict=False)
        ]  # fmt: skip
        service.temperature = lambda latitude: round(latitude * 0.7 - 10, 1)
        yield service


@pytest.fixture(scope="session")
def shared_processes() -> Iterator[Processes]:
    with Processes() as started:
        yield started


@pytest.fixture(scope="session")
def tandem(
    shared_processes: Processes, engine: RealEngine, open_meteo: OpenMeteo, traces: Collector
) -> Service:
    return shared_processes.orchestrator(
        engine.url,
        WEATHER_SOURCE="open-meteo",
        WEATHER_URL=open_meteo.url,
        GEOCODING_URL=open_meteo.url,
        ENGINE_WAIT_SECONDS="150",
        TOOL_MODULES="waiting_tool",
        TOOL_TIMEOUT_SECONDS="60",
        OTEL_EXPORTER_OTLP_ENDPOINT=traces.url,
        OTEL_TRACES_SAMPLER_ARG="0",  # only what a client's traceparent samples
        PYTHONPATH=str(Path(__file__).parent),
    )


@pytest.fixture(params=[openai.OpenAI, openai.AsyncOpenAI], ids=["sync", "async"])
async def client(request: pytest.FixtureRequest, tandem: Service) -> AsyncIterator[Client]:
    """The official client, with only its base_url changed."""
    made: Client = request.param(base_url=f"{tandem.url}/v1", api_key="dummy", max_retries=0, timeout=60)
    yield made
    await settle(made.close())


@pytest.fixture
async def asking(tandem: Service) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{tandem.url}/v1", api_key="x", max_retries=0, timeout=180
    ) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function, call: pytest.CallInfo[None]) -> Any:
    """Shows the end of the engine's log if a test fails."""
    report = yield
    if report.failed:
        running = item.funcargs.get("engine")
        with contextlib.suppress(OSError):
            if isinstance(running, RealEngine):
                report.sections.append(("end of the engine's log", running.log_tail()))
    return report
