"""Limits of keys as clients see them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.live import live, until
from tests.support.scripted_engine import ScriptedEngine, after, call, stream, text, whole


def entry(key: str, **limits: Any) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(key.encode()).hexdigest(), **limits}


def key_file(directory: Path, **entries: Any) -> str:
    file = directory / "keys.json"
    file.write_text(json.dumps(entries))
    return str(file)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_openai_client_sees_the_limit(engine: ScriptedEngine, tmp_path: Path) -> None:
    file = key_file(tmp_path, alice=entry("one", requests_per_minute=2), bob=entry("two"))
    engine.otherwise = whole("ok")
    async with live(engine.url, API_KEYS_FILE=file) as server:
        client = server.openai.with_options(api_key="one")
        messages: Any = [{"role": "user", "content": "Hi"}]
        answer = await client.chat.completions.with_raw_response.create(model="scripted", messages=messages)
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-remaining-requests"] == "1"

        async def ask_until_rejected() -> None:
            for _ in range(4):  # a minute may begin between two requests
                await client.chat.completions.create(model="scripted", messages=messages)

        with pytest.raises(openai.RateLimitError) as caught:
            await ask_until_rejected()
        other = await server.chat(headers=bearer("two"))
        assert other.status_code == 200
        assert "x-ratelimit-limit-requests" not in other.headers
    assert caught.value.code == "rate_limit_exceeded"
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 60
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"


async def test_streamed_tokens_count(engine: ScriptedEngine, tmp_path: Path) -> None:
    file = key_file(tmp_path, alice=entry("one", tokens_per_day=20))
    engine.otherwise = stream(*text("Hello"), usage=(10, 5))
    async with live(engine.url, API_KEYS_FILE=file) as server:
        first = await server.chat(stream=True, headers=bearer("one"))
        second = await server.chat(stream=True, headers=bearer("one"))
        third = await server.chat(stream=True, headers=bearer("one"))
    assert (first.status_code, second.status_code, third.status_code) == (200, 200, 429)
    assert second.headers["x-ratelimit-remaining-tokens"] == "5"
    assert '"usage"' not in first.text
    assert third.json()["error"]["type"] == "tokens"


async def test_expired_key_is_rejected_with_the_reason(engine: ScriptedEngine, tmp_path: Path) -> None:
    file = key_file(
        tmp_path,
        alice=entry("one", expires="2026-01-31T12:00:00+00:00"),
        bob=entry("two", expires="2999-01-01"),
    )
    engine.otherwise = whole("ok")
    async with live(engine.url, API_KEYS_FILE=file) as server:
        expired = await server.chat(headers=bearer("one"))
        assert (await server.chat(headers=bearer("two"))).status_code == 200
    assert expired.status_code == 401
    assert expired.json()["error"]["code"] == "expired_api_key"
    assert "'alice' expired at 2026-01-31 12:00 UTC" in expired.json()["error"]["message"]


async def test_models_and_tools(engine: ScriptedEngine, tmp_path: Path) -> None:
    file = key_file(tmp_path, alice=entry("one", models=["scripted"], tools=["calculate_math"]))
    tools = {
        name: [{"type": "function", "function": {"name": name}}]
        for name in ("calculate_math", "query_database")
    }
    async with live(engine.url, API_KEYS_FILE=file, ATTACH_TOOLS="all") as server:
        other_model = await server.chat(headers=bearer("one"), model="other")
        other_tool = await server.chat(headers=bearer("one"), tools=tools["query_database"])
        engine.play(whole(calls=[call("calculate_math", {"expression": "1+1"})]), whole("2"))
        permitted = await server.chat(headers=bearer("one"), tools=tools["calculate_math"])
        engine.play(whole("ok"))
        attached = await server.chat(headers=bearer("one"))
    assert (other_model.status_code, other_model.json()["error"]["code"]) == (403, "model_not_permitted")
    assert (other_tool.status_code, other_tool.json()["error"]["code"]) == (403, "tool_not_permitted")
    assert (permitted.status_code, attached.status_code) == (200, 200)
    offered = [tool["function"]["name"] for tool in engine.requests[-1].json["tools"]]
    assert offered == ["calculate_math"]


async def test_one_key_leaves_room_for_others(engine: ScriptedEngine, tmp_path: Path) -> None:
    file = key_file(tmp_path, alice=entry("one"), bob=entry("two"))
    go_on = asyncio.Event()
    engine.otherwise = after(go_on, whole("ok"))
    async with live(engine.url, API_KEYS_FILE=file, MAX_IN_FLIGHT="8") as server:
        running = [asyncio.create_task(server.chat(headers=bearer("one"))) for _ in range(8)]
        await until(lambda: engine.running == 6 and sum(task.done() for task in running) == 2)
        rejected = [await task for task in running if task.done()]
        other = asyncio.create_task(server.chat(headers=bearer("two")))
        await until(lambda: engine.running == 7)
        go_on.set()
        assert (await other).status_code == 200
        answers = [await task for task in running]
    assert [answer.status_code for answer in rejected] == [429, 429]
    assert "left to other keys" in rejected[0].json()["error"]["message"]
    assert sorted(answer.status_code for answer in answers) == [200] * 6 + [429] * 2


async def test_default_limits_apply_to_everyone_on_an_open_server(engine: ScriptedEngine) -> None:
    engine.otherwise = whole("ok")
    async with live(engine.url, KEY_TOKENS_PER_DAY="10") as server:
        assert (await server.chat()).status_code == 200
        assert (await server.chat()).status_code == 429


async def test_client_that_leaves_frees_its_place(engine: ScriptedEngine) -> None:
    engine.otherwise = after(asyncio.Event(), whole("never"))
    async with live(engine.url, KEY_MAX_IN_FLIGHT="1", KEY_TOKENS_PER_DAY="1000") as server:
        leaving = asyncio.create_task(server.chat(max_tokens=500))
        await engine.arrived.wait()
        assert (await server.chat()).status_code == 429
        leaving.cancel()
        await engine.aborted.wait()
        engine.otherwise = whole("ok")
        answer = await server.chat()
    assert answer.status_code == 200
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) > 900
