from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.scripted_mcp import ScriptedMcp, scripted_mcp


@pytest.fixture
async def modern() -> AsyncIterator[ScriptedMcp]:
    async with scripted_mcp() as server:
        yield server


@pytest.fixture
async def legacy() -> AsyncIterator[ScriptedMcp]:
    async with scripted_mcp(modern=False) as server:
        yield server


@pytest.fixture(params=["modern", "legacy"])
async def peer(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedMcp]:
    async with scripted_mcp(modern=request.param == "modern") as server:
        yield server
