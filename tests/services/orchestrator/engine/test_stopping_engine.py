"""A vLLM that is being stopped finishes its requests, and answers 500 to new ones; see docs/engine.md."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.live import live
from tests.support.scripted_engine import ScriptedEngine, body, scripted_engine, whole

MESSAGE = "cannot schedule new futures after shutdown"
STOPPING = body({"error": {"message": MESSAGE, "type": "InternalServerError", "code": 500}}, 500)


@pytest.fixture
async def second() -> AsyncIterator[ScriptedEngine]:
    async with scripted_engine() as engine:
        yield engine


async def test_request_goes_to_another_engine(engine: ScriptedEngine, second: ScriptedEngine) -> None:
    engine.otherwise = STOPPING
    second.otherwise = whole("from the second")
    async with live(engine.url, second.url, ENGINE_AFFINITY="false") as server:
        for _ in range(4):
            answer = await server.chat()
            assert answer.json()["choices"][0]["message"]["content"] == "from the second"
    assert engine.requests


async def test_client_is_asked_to_try_again_if_there_is_no_other_engine(engine: ScriptedEngine) -> None:
    engine.otherwise = STOPPING
    async with live(engine.url) as server:
        answer = await server.chat()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_other_failures_with_that_text_in_them_are_the_clients(engine: ScriptedEngine) -> None:
    engine.otherwise = body({"error": {"message": f"unknown role {MESSAGE!r}", "code": 400}}, 400)
    async with live(engine.url) as server:
        answer = await server.chat()
    assert answer.status_code == 400
