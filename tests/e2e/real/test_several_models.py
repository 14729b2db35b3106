"""Two models, one with two engines and one with an adapter, behind one orchestrator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.engine.serve import MODEL_NAME, RealEngine
from tests.e2e.engine.train.phrases import SMALL_TALK
from tests.support.metrics import total
from tests.support.processes import Processes, Service, eventually

from .conftest import PYTHON
from .test_adapters import ADAPTER, NAME, SENTENCE

OTHER = "other"
QUESTION = SMALL_TALK[0][0]
LONG: dict[str, Any] = {"max_tokens": 200, "stream": True, "extra_body": {"ignore_eos": True}}
START_SECONDS = 400.0


@pytest.fixture(scope="module")
def twin_and_other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealEngine, RealEngine]]:
    """A second engine of the first model, and one of another model with an adapter."""
    logs = tmp_path_factory.mktemp("engines")
    module = json.dumps({"name": NAME, "path": str(ADAPTER), "base_model_name": OTHER})
    lora = ("--enable-lora", "--max-lora-rank", "8", "--lora-modules", module)
    twin = RealEngine(PYTHON, logs / "twin.log", ready_seconds=START_SECONDS)
    other = RealEngine(
        PYTHON,
        logs / "other.log",
        flags=("--served-model-name", OTHER, *lora),
        ready_seconds=START_SECONDS,
    )
    try:
        with ThreadPoolExecutor() as threads:
            list(threads.map(RealEngine.start, (twin, other)))
        yield twin, other
    finally:
        twin.stop()
        other.stop()


@pytest.fixture(scope="module")
def service(engine: RealEngine, twin_and_other: tuple[RealEngine, RealEngine]) -> Iterator[Service]:
    twin, other = twin_and_other
    models = [
        {"model": MODEL_NAME, "url": f"{engine.url},{twin.url}", "aliases": ["gpt-4o"]},
        {"model": OTHER, "url": other.url, "adapters": [NAME]},
    ]
    with Processes() as processes:
        started = processes.orchestrator(MODELS=json.dumps(models), ENGINE_WAIT_SECONDS="0")
        yield started


def states(service: Service) -> dict[str, str]:
    models = httpx.get(f"{service.url}/ready", trust_env=False).json()["models"]
    return {name: one["state"] for name, one in models.items()}


def answered(engine: RealEngine) -> float:
    return total(engine.url, "vllm:request_success_total")


@pytest.mark.timeout(900)
async def test_models_engines_and_an_adapter_behind_one_address(
    service: Service, engine: RealEngine, twin_and_other: tuple[RealEngine, RealEngine]
) -> None:
    twin, other = twin_and_other
    both = {MODEL_NAME: "ready", OTHER: "ready"}
    await eventually(lambda: states(service) == both, "both models to be ready", seconds=30)
    async with openai.AsyncOpenAI(
        base_url=f"{service.url}/v1", api_key="x", max_retries=0, timeout=180
    ) as client:
        listed = {one.id async for one in client.models.list()}
        assert listed == {MODEL_NAME, "gpt-4o", OTHER, NAME}
        await _names_reach_their_model(client, other)
        await _engines_of_one_model_share_its_requests(client, engine, twin)
        await _one_model_serves_while_the_other_is_killed(client, service, other)


async def _names_reach_their_model(client: openai.AsyncOpenAI, other: RealEngine) -> None:
    texts = {}
    for name, model in ((MODEL_NAME, MODEL_NAME), ("gpt-4o", MODEL_NAME), (OTHER, OTHER), (NAME, NAME)):
        before = answered(other)
        answer = await client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": QUESTION}], temperature=0
        )
        assert answer.model == model
        expected = before + (model != MODEL_NAME)
        await eventually(lambda: answered(other) == expected, f"{name} to reach its engine")  # noqa: B023
        texts[name] = answer.choices[0].message.content
    assert texts[NAME] == SENTENCE
    assert texts[MODEL_NAME] == texts[OTHER] != SENTENCE
    with pytest.raises(openai.NotFoundError, match="did you mean tiny"):
        await client.chat.completions.create(model="tine", messages=[{"role": "user", "content": "Hi"}])


async def _engines_of_one_model_share_its_requests(
    client: openai.AsyncOpenAI, engine: RealEngine, twin: RealEngine
) -> None:
    before = [answered(one) for one in (engine, twin)]
    await asyncio.gather(*(_ask(client, MODEL_NAME, f"Calculate {number} * 3") for number in range(8)))

    def shares() -> list[float]:
        return [answered(one) - had for one, had in zip((engine, twin), before, strict=True)]

    await eventually(lambda: sum(shares()) == 8, "all answers to be counted")
    assert min(shares()) >= 3, "of 8 at once, no engine has more than 1.25 times the mean"


async def _one_model_serves_while_the_other_is_killed(
    client: openai.AsyncOpenAI, service: Service, other: RealEngine
) -> None:
    begun = []
    for name in (MODEL_NAME, OTHER):  # in turn, so that the second is killed right after its first token
        stream = aiter(
            await client.chat.completions.create(
                model=name, messages=[{"role": "user", "content": QUESTION}], **LONG
            )
        )
        await anext(stream)
        begun.append(stream)
    first, second = begun
    other.kill()
    finished = [chunk.choices[0].finish_reason async for chunk in first if chunk.choices]
    assert finished[-1] == "length"
    with pytest.raises(openai.APIError, match="engine"):
        async for _ in second:
            pass
    await eventually(lambda: states(service)[OTHER] != "ready", "the engine to be missed", seconds=20)
    assert states(service)[MODEL_NAME] == "ready"
    await _ask(client, MODEL_NAME, QUESTION)
    for name in (OTHER, NAME):
        with pytest.raises(openai.InternalServerError, match="503"):
            await _ask(client, name, QUESTION)


async def _ask(client: openai.AsyncOpenAI, model: str, question: str) -> None:
    answer = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=16
    )
    assert answer.choices[0].message.content
