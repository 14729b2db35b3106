"""Fixtures for all tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import hypothesis
import pytest
import uvloop

from tests.support.live import Live, live
from tests.support.scripted_engine import ScriptedEngine, scripted_engine

# A busy machine can stop a test for longer than Hypothesis's deadline per example. Each test has a timeout.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    async with scripted_engine() as running:
        yield running


@pytest.fixture
async def server(engine: ScriptedEngine) -> AsyncIterator[Live]:
    async with live(engine.url) as running:
        yield running


@pytest.fixture
async def asleep() -> AsyncIterator[ScriptedEngine]:
    """An engine that is not running, but keeps its port."""
    async with scripted_engine() as running:
        await running.stop()
        yield running
        with contextlib.suppress(OSError):  # the test has started it
            await running.start(running.port)
