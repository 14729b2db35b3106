"""Routing by the name of a model, bulkheads between models, and one model that stands in for another."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import openai
import pytest

from orchestrator.api.by_model import ROUTES
from tests.support.live import Live, live, text_of, until
from tests.support.scripted_engine import (
    CUT,
    ScriptedEngine,
    after,
    body,
    call,
    cut,
    stream,
    text,
    whole,
)
from tests.support.several_models import several_models

LARGE: dict[str, Any] = {"model": "org/large", "aliases": ["gpt-4o"], "adapters": ["support-tone"]}
SMALL: dict[str, Any] = {"model": "small"}
BGE = {"model": "bge", "kind": "embedding"}
RANK = {"model": "rank", "kind": "reranker"}
MATH = {"type": "function", "function": {"name": "calculate_math"}}
BUSY = body({"error": {"message": "queue is full"}}, 503)
NOWHERE = "http://127.0.0.1:9"
NO_WAIT = {"ENGINE_WAIT_SECONDS": "0"}


def content(answer: Any) -> Any:
    return answer.json()["choices"][0]["message"]["content"]


async def up(server: Live, *models: str) -> None:
    """Waits until the engines of these models are known to answer."""
    fleets = [server.app._fleets.names[model][0] for model in models]
    await until(lambda: all(fleet.ready for fleet in fleets))


@pytest.mark.parametrize(
    ("name", "engine", "sent"),
    [
        ("org/large", "org/large", "org/large"),
        ("gpt-4o", "org/large", "org/large"),
        ("support-tone", "org/large", "support-tone"),
        ("small", "small", "small"),
    ],
)
@pytest.mark.parametrize("tools", [None, [MATH]])
async def test_a_name_reaches_the_engine_that_knows_it(name: str, engine: str, sent: str, tools: Any) -> None:
    async with several_models(LARGE, SMALL, **NO_WAIT) as models:
        models.engines[engine].play(whole("ok"))
        fields = {"tools": tools} if tools else {}
        assert content(await models.server.chat(model=name, **fields)) == "ok"
        assert [one["model"] for one in models.asked(engine)] == [sent]


async def test_other_fields_of_an_aliased_request_are_unchanged() -> None:
    async with several_models(LARGE, SMALL) as models:
        models.engines["org/large"].play(whole("ok"))
        sent = b'{"seed":123456789012345678901234567890,"model":"gpt-4o","messages":[{"content":"x"}]}'
        await models.server.http.post("/v1/chat/completions", content=sent)
        [got] = models.engines["org/large"].requests
        assert got.json == {**json.loads(sent), "model": "org/large"}


async def test_without_a_name_the_first_chat_model_answers() -> None:
    async with several_models(BGE, SMALL, LARGE) as models:
        models.engines["small"].play(whole("1"), whole("2"))
        message = [{"role": "user", "content": "Hi"}]
        for sent in ({"messages": message}, {"messages": message, "model": None}):
            answer = await models.server.http.post("/v1/chat/completions", json=sent)
            assert answer.status_code == 200
        assert "model" not in models.asked("small")[0]


async def test_azure_s_path_and_anthropic_s_route_are_routed_too() -> None:
    async with several_models(LARGE, SMALL) as models:
        models.engines["org/large"].play(whole("azure"))
        path = "/openai/deployments/gpt-4o/chat/completions"
        answer = await models.server.http.post(path, json={"messages": [{"role": "user", "content": "Hi"}]})
        assert content(answer) == "azure"
        models.engines["small"].play(body({"type": "message", "content": [], "usage": {}}))
        message = {"model": "small", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
        assert (await models.server.http.post("/v1/messages", json=message)).status_code == 200
        unknown = await models.server.http.post("/v1/messages", json={**message, "model": "smal"})
        assert unknown.status_code == 404
        assert unknown.json()["type"] == "error"


async def test_unknown_name_gets_openai_s_error_with_the_nearest_names() -> None:
    async with several_models(LARGE, SMALL) as models:
        with pytest.raises(openai.NotFoundError) as caught:
            await models.server.openai.chat.completions.create(
                model="gpt-4", messages=[{"role": "user", "content": "Hi"}]
            )
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        assert caught.value.type == "invalid_request_error"
        assert "did you mean gpt-4o?" in caught.value.message
        wrong = await models.server.chat(model=["org/large"])
        assert wrong.status_code == 400
        # A path is not a name: only the configured adapters reach an engine, which joins names to paths.
        for name in ("../../etc", "support-tone/../other", "org/large\n"):
            assert (await models.server.chat(model=name)).status_code == 404
        assert not models.asked("org/large")


async def test_routes_that_load_adapters_do_not_exist() -> None:
    loading = ("load_lora_adapter", "unload_lora_adapter")
    assert not any(name in route for route in ROUTES for name in loading)
    async with several_models(LARGE) as models:
        for name in loading:
            sent = {"model": "org/large", "lora_name": "x", "lora_path": "/tmp/x"}
            for path in (f"/v1/{name}", f"/{name}", f"/openai/deployments/org/large/{name}"):
                assert (await models.server.http.post(path, json=sent)).status_code == 404
        assert not models.asked("org/large")


@pytest.mark.parametrize(
    ("route", "name", "path"),
    [
        ("/v1/embeddings", "bge", "/v1/embeddings"),
        ("/v1/pooling", "bge", "/pooling"),
        ("/v1/rerank", "rank", "/v1/rerank"),
        ("/rerank", "rank", "/v1/rerank"),
        ("/v1/score", "bge", "/v1/score"),
        ("/v1/classify", "rank", "/classify"),
    ],
)
async def test_each_kind_has_its_routes(route: str, name: str, path: str) -> None:
    async with several_models(SMALL, BGE, RANK) as models:
        models.engines[name].play(body({"object": "list", "data": [], "usage": {"prompt_tokens": 3}}))
        answer = await models.server.http.post(route, json={"model": name, "input": "x"})
        assert answer.json()["object"] == "list"
        assert [one.path for one in models.engines[name].requests] == [path]


async def test_model_of_the_wrong_kind_is_rejected_with_those_that_are_right() -> None:
    async with several_models(SMALL, BGE) as models:
        wrong = await models.server.http.post("/v1/embeddings", json={"model": "small", "input": "x"})
        assert wrong.status_code == 400
        assert wrong.json()["error"]["code"] == "model_not_supported"
        assert "models that have it: bge" in wrong.json()["error"]["message"]
        none = await models.server.http.post("/v1/rerank", json={"model": "small", "query": "x"})
        assert "models that have it: bge" in none.json()["error"]["message"]
    async with several_models(SMALL) as models:
        nobody = await models.server.http.post("/v1/embeddings", json={"input": "x"})
        assert nobody.status_code == 404
        assert "the models are small (chat)" in nobody.json()["error"]["message"]


async def test_limits_of_a_key_name_models_aliases_or_adapters() -> None:
    digest = hashlib.sha256(b"a-long-secret-key").hexdigest()
    async with several_models(LARGE, SMALL, API_KEYS=f"alice:{digest}") as models:
        server = models.server
        server.http.headers["authorization"] = "Bearer a-long-secret-key"
        [alice] = server.app._accounts
        alice.limits = alice.limits.with_entry({"models": ["gpt-4o"]})
        models.engines["org/large"].otherwise = whole("ok")
        for name, status in (("gpt-4o", 200), ("org/large", 200), ("support-tone", 403), ("small", 403)):
            assert (await server.chat(model=name)).status_code == status, name
        alice.limits = alice.limits.with_entry({"models": ["support-tone"]})
        for name, status in (("support-tone", 200), ("org/large", 403)):
            assert (await server.chat(model=name)).status_code == status, name


async def test_a_model_that_hangs_leaves_room_for_the_others() -> None:
    hangs = asyncio.Event()
    async with several_models(LARGE, SMALL, MAX_IN_FLIGHT="8") as models:
        server = models.server
        models.engines["org/large"].otherwise = after(hangs, whole("late"))
        models.engines["small"].otherwise = whole("ok")
        waiting = [asyncio.create_task(server.chat(model="org/large")) for _ in range(6)]
        await until(lambda: len(models.asked("org/large")) == 6)
        rejected = await server.chat(model="gpt-4o")
        assert rejected.status_code == 429
        assert "left to other models" in rejected.json()["error"]["message"]
        assert rejected.headers["retry-after"] == "2"
        for _ in range(10):
            assert content(await server.chat(model="small")) == "ok"
        metrics = await server.metrics()
        assert 'admission_rejections_total{model="org/large"} 1.0' in metrics
        assert 'admission_rejections_total{model="small"} 0.0' in metrics
        hangs.set()
        assert [content(await one) for one in waiting] == ["late"] * 6
        assert content(await server.chat(model="org/large")) == "late"


async def test_memory_of_one_model_s_requests_leaves_room_for_the_others() -> None:
    hangs = asyncio.Event()
    async with several_models(LARGE, SMALL, MEMORY_BUDGET_BYTES=str(16 * 2**20)) as models:
        server = models.server
        models.engines["org/large"].otherwise = after(hangs, whole("late"))
        models.engines["small"].otherwise = whole("ok")
        waiting = []
        for _ in range(40):
            held = len(models.asked("org/large"))
            waiting.append(asyncio.create_task(server.chat("x" * 200_000, model="org/large")))
            await until(lambda: waiting[-1].done() or len(models.asked("org/large")) > held)  # noqa: B023
            if waiting[-1].done():
                break
        rejected = await waiting.pop()
        assert "left to other models" in rejected.json()["error"]["message"]
        assert content(await server.chat("x" * 200_000, model="small")) == "ok"
        hangs.set()
        assert {content(await one) for one in waiting} == {"late"}


@pytest.mark.parametrize("trouble", ["down", "breaks", "busy", "fails"])
async def test_trouble_of_one_model_does_not_touch_another(trouble: str) -> None:
    reply = {"breaks": cut(), "busy": BUSY, "fails": body({"error": "boom"}, 500), "down": None}[trouble]
    async with several_models(LARGE, SMALL, **NO_WAIT) as models:
        server = models.server
        models.engines["small"].otherwise = whole("ok")
        if reply is None:
            await models.engines["org/large"].stop()
        else:
            models.engines["org/large"].otherwise = reply
        await up(server, "small")
        answers = await asyncio.gather(
            *(server.chat(model=name) for name in ("org/large", "small") for _ in range(8))
        )
        assert {one.status_code for one in answers[:8]} <= {502, 503}
        assert [content(one) for one in answers[8:]] == ["ok"] * 8
        metrics = await server.metrics()
        assert 'engine_retries_total{model="small"} 0.0' in metrics
        assert 'engines_up{model="small"} 1.0' in metrics
        if reply is None:
            await models.engines["org/large"].start(models.engines["org/large"].port)


async def test_only_the_sleeping_model_holds_its_requests() -> None:
    sleeping = {**LARGE, "url": NOWHERE, "startup_seconds": 60}
    async with several_models(sleeping, SMALL) as models:
        models.engines["small"].otherwise = whole("ok")
        held = asyncio.create_task(models.server.chat(model="gpt-4o", stream=True))
        large = models.server.app._fleets.names["gpt-4o"][0]
        await until(lambda: large.discovery.starts.held == 1)
        rejected = await models.server.chat(model="org/large")
        assert rejected.json()["error"]["code"] == "engine_starting"
        assert content(await models.server.chat(model="small")) == "ok"
        metrics = await models.server.metrics()
        assert 'held_demand{model="org/large"} 1.0' in metrics
        assert 'held_demand{model="small"} 0.0' in metrics
        held.cancel()


FALLING: dict[str, Any] = {**LARGE, "fallback": "small"}


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("trouble", ["down", "busy", "sleeping"])
@pytest.mark.parametrize("tools", [None, [MATH]])
async def test_fallback_answers_for_a_model_that_is_not_available(
    trouble: str, streams: bool, tools: Any
) -> None:
    falling = FALLING if trouble == "busy" else {**FALLING, "url": NOWHERE}
    if trouble == "sleeping":
        falling = {**falling, "startup_seconds": 60}
    async with several_models(falling, SMALL) as models:
        await up(models.server, "small")
        if trouble == "busy":
            models.engines["org/large"].otherwise = BUSY
        models.engines["small"].otherwise = stream(*text("small")) if streams else whole("small")
        fields = {"tools": tools} if tools else {}
        answer = await models.server.chat(model="gpt-4o", stream=streams, **fields)
        assert answer.headers["x-fallback-model"] == "small"
        assert [one["model"] for one in models.asked("small")] == ["small"]
        if not streams:
            assert content(answer) == "small"
        starts = models.server.app._fleets.first.discovery.starts
        assert starts.unmet == (trouble == "sleeping"), "the model is started all the same"


async def test_no_fallback_after_an_error_of_the_client_or_a_part_of_an_answer() -> None:
    async with several_models(FALLING, SMALL, **NO_WAIT) as models:
        await up(models.server, "org/large", "small")
        large = models.engines["org/large"]
        large.play(body({"error": {"message": "too long", "type": "BadRequestError", "code": 400}}, 400))
        assert (await models.server.chat(model="org/large")).status_code == 400
        large.play(stream(*text("Begun"), CUT))
        events = await models.server.chat_events(model="org/large")
        assert text_of(events) == "Begun"
        large.play(body({"error": "boom"}, 500))
        assert (await models.server.chat(model="org/large")).status_code == 502
        assert not models.asked("small")


async def test_no_fallback_once_a_tool_has_run() -> None:
    async with several_models(FALLING, SMALL, **NO_WAIT) as models:
        await up(models.server, "org/large", "small")
        models.engines["org/large"].play(
            whole(None, calls=[call("calculate_math", {"expression": "1+1"})]), BUSY
        )
        answer = await models.server.chat(model="org/large", tools=[MATH])
        assert answer.status_code == 503
        assert not models.asked("small")


async def test_adapters_have_no_fallback() -> None:
    async with several_models({**FALLING, "url": NOWHERE}, SMALL, **NO_WAIT) as models:
        await up(models.server, "small")
        answer = await models.server.chat(model="support-tone")
        assert answer.status_code == 503
        assert "x-fallback-model" not in answer.headers


async def test_two_models_that_stand_in_for_each_other_do_not_loop() -> None:
    async with several_models(FALLING, {**SMALL, "fallback": "org/large"}) as models:
        await up(models.server, "org/large", "small")
        models.engines["org/large"].otherwise = models.engines["small"].otherwise = BUSY
        answer = await models.server.chat(model="small")
        assert answer.status_code == 503
        assert "x-fallback-model" not in answer.headers
        assert (len(models.asked("small")), len(models.asked("org/large"))) == (1, 1)


async def test_fallback_is_not_used_by_keys_that_may_not_use_it() -> None:
    digest = hashlib.sha256(b"a-long-secret-key").hexdigest()
    falling = {**FALLING, "url": NOWHERE}
    async with several_models(falling, SMALL, API_KEYS=f"alice:{digest}", **NO_WAIT) as models:
        await up(models.server, "small")
        models.server.http.headers["authorization"] = "Bearer a-long-secret-key"
        [alice] = models.server.app._accounts
        alice.limits = alice.limits.with_entry({"models": ["gpt-4o"]})
        assert (await models.server.chat(model="gpt-4o")).status_code == 503
        assert not models.asked("small")


async def test_a_single_model_of_the_variables_has_any_name(engine: ScriptedEngine) -> None:
    async with live(engine.url, DEFAULT_MODEL="org/name") as server:
        engine.play(whole("ok"))
        assert content(await server.chat(model="anything")) == "ok"
        assert engine.requests[0].json["model"] == "anything"
        assert (await server.http.post("/v1/rerank", json={"model": "x"})).status_code == 404
