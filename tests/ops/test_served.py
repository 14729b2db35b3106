"""What the smoke test asks of each of several models."""

from __future__ import annotations

import asyncio
from typing import Any

from ops.report import Result, Status
from ops.smoke import Target, smoke
from tests.support.live import until
from tests.support.scripted_engine import Exchange, ScriptedEngine, body, stream, text, whole
from tests.support.several_models import several_models

LARGE = {"model": "org/large", "aliases": ["gpt-4o"], "adapters": ["support-tone"]}
SMALL = {"model": "small"}
BGE = {"model": "bge", "kind": "embedding"}
RANK = {"model": "rank", "kind": "reranker"}
WHISPER = {"model": "whisper", "kind": "speech-to-text"}
VECTORS = [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]]
NOWHERE = "http://127.0.0.1:9"


def embedded(*vectors: list[float]) -> Any:
    data = [{"object": "embedding", "index": at, "embedding": one} for at, one in enumerate(vectors)]
    return body(
        {"object": "list", "model": "bge", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    )


def ranked(*indices: int) -> Any:
    return body({"model": "rank", "results": [{"index": one, "relevance_score": 0.5} for one in indices]})


async def says_hello(exchange: Exchange) -> None:
    streams = exchange.request.json.get("stream")
    await (stream(*text("Hello")) if streams else whole("Hello"))(exchange)


async def answers_of(url: str, model: str | None = None) -> dict[str, Result]:
    results = await asyncio.to_thread(smoke, Target(f"{url}/v1", None, model))
    return {one.subject: one for one in results}


async def test_every_model_and_adapter_is_asked_for_what_it_does() -> None:
    async with several_models(BGE, LARGE, SMALL, RANK, WHISPER) as models:
        models.engines["whisper"].otherwise = body({"text": " you"})
        models.engines["bge"].otherwise = embedded(*VECTORS)
        models.engines["rank"].otherwise = ranked(1, 0)
        for name in ("org/large", "small"):
            models.engines[name].otherwise = says_hello
        results = await answers_of(models.server.url)
        names = {one["model"] for one in models.asked("org/large")}
    assert {one: results[one].status for one in results if " of " in one} == {
        "embedding of bge": Status.OK,
        "chat of support-tone": Status.OK,
        "chat of small": Status.OK,
        "reranker of rank": Status.OK,
        "speech-to-text of whisper": Status.OK,
    }
    assert "heard as 'you'" in results["speech-to-text of whisper"].found
    assert results["chat"].status is Status.OK  # of the first that chats
    assert "vectors of 3 numbers" in results["embedding of bge"].found
    assert names == {"org/large", "support-tone"}


async def test_wrong_answers_are_errors() -> None:
    async with several_models(BGE, RANK, SMALL, WHISPER) as models:
        models.engines["whisper"].otherwise = body({"words": []})
        models.engines["bge"].otherwise = embedded(VECTORS[0], VECTORS[0])
        models.engines["rank"].otherwise = ranked(0)
        models.engines["small"].otherwise = says_hello
        results = await answers_of(models.server.url)
    for subject in ("embedding of bge", "reranker of rank"):
        assert (results[subject].status, "2 " in results[subject].found) == (Status.ERROR, True)
    assert results["speech-to-text of whisper"].status is Status.ERROR


async def test_model_that_is_named_is_asked_alone() -> None:
    async with several_models(LARGE, BGE) as models:
        models.engines["bge"].otherwise = embedded(*VECTORS)
        results = await answers_of(models.server.url, "bge")
        assert models.asked("org/large") == []
    assert list(results) == ["models", "embedding of bge", "wrong key"]


async def test_model_that_sleeps_is_woken_and_not_waited_for_if_it_does_not_chat() -> None:
    asleep = {**BGE, "url": NOWHERE, "startup_seconds": 30}
    async with several_models(SMALL, asleep, ENGINE_WAIT_SECONDS="0") as models:
        models.engines["small"].otherwise = says_hello
        results = await answers_of(models.server.url)
    found = results["embedding of bge"]
    assert (found.status, "--model bge" in (found.fix or "")) == (Status.UNKNOWN, True)


async def test_chat_model_that_sleeps_is_waited_for(asleep: ScriptedEngine) -> None:
    sleeper = {**SMALL, "url": asleep.url, "startup_seconds": 30}
    asleep.models = {"object": "list", "data": [{"id": "small", "object": "model"}]}
    asleep.otherwise = says_hello
    async with several_models({"model": "org/large"}, sleeper, HEARTBEAT_SECONDS="0.2") as models:
        models.engines["org/large"].otherwise = says_hello
        testing = asyncio.create_task(answers_of(models.server.url))
        fleet, *_ = models.server.app._fleets.names["small"]
        await until(lambda: fleet.discovery.starts.held == 1)
        await asleep.start(asleep.port)
        results = await testing
    assert results["chat of small"].status is Status.OK
