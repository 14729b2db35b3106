"""A server that web pages of other origins may use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.live import Live, live
from tests.support.scripted_engine import ScriptedEngine

from .browser import KEY, PAGE


@pytest.fixture(params=[PAGE, f"http://localhost:5173,{PAGE}", "*"])
async def open_server(request: pytest.FixtureRequest, engine: ScriptedEngine) -> AsyncIterator[Live]:
    async with live(engine.url, CORS_ORIGINS=request.param, BOOTSTRAP_API_KEY=KEY) as running:
        yield running
