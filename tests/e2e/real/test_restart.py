"""The engine is killed and restarted under load: every request gets a correct answer or one clear error."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, cast

import httpx
import openai
import pytest

from tests.clients.support import CALCULATOR
from tests.e2e.engine.serve import RealEngine
from tests.support.processes import Service, eventually

REQUESTS = 24


@pytest.mark.timeout(300)
async def test_engine_is_killed_and_restarted_under_load(
    tandem: Service, engine: RealEngine, asking: openai.AsyncOpenAI, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    ended = asyncio.Event()
    free = asyncio.Semaphore(6)

    async def ask(number: int) -> None:
        async with free:
            outcomes[await outcome_of(asking, number)] += 1

    async def watch_models() -> None:
        async with httpx.AsyncClient(base_url=tandem.url) as http:
            while not ended.is_set():
                statuses[(await http.get("/v1/models")).status_code] += 1
                await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch_models())
    asks = [asyncio.create_task(ask(number)) for number in range(REQUESTS)]
    await eventually(lambda: outcomes.total() >= 4, "some answers", seconds=60)
    engine.kill()
    await eventually(
        lambda: httpx.get(f"{tandem.url}/ready").status_code == 503,
        "the engine to be reported missing",
        seconds=20,
    )
    assert "No engine answers" in httpx.get(f"{tandem.url}/ready").json()["reason"]
    await asyncio.to_thread(engine.start)
    await asyncio.gather(*asks)
    ended.set()
    await watching
    with capsys.disabled():
        print(f"\n  {dict(outcomes)}; /v1/models answered {dict(statuses)}")
    assert set(outcomes) <= {"right", "one clear error"}
    assert outcomes["right"] > REQUESTS / 2
    assert set(statuses) == {200}


async def outcome_of(client: openai.AsyncOpenAI, number: int) -> str:
    """Classifies the answer: right, one clear error, or something unacceptable."""
    text, finishes = "", 0
    try:
        stream = await client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": f"Calculate {number} * 11"}],
            tools=cast(Any, [CALCULATOR]),
            temperature=0,
            stream=True,
        )
        async for chunk in stream:
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            finishes += sum(choice.finish_reason is not None for choice in chunk.choices)
    except openai.APIError as error:
        return "one clear error" if finishes == 0 and "engine" in str(error) else f"unexpected error: {error}"
    if finishes != 1:
        return "looks complete but is not"
    return "right" if str(number * 11) in text else f"wrong: {text}"
