"""Stored responses over HTTP, with the official client: read, listed, continued, deleted."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from orchestrator.api.responses.store import StoreFailed
from tests.support.live import Live, events_of, live
from tests.support.openai_types import check, check_response_events
from tests.support.scripted_engine import ScriptedEngine, call, stream, text, whole

SUM = '{"expression": "1+1"}'
MATH: Any = {"type": "function", "name": "calculate_math"}
ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)


async def create(server: Live, **fields: Any) -> Any:
    return await server.openai.responses.create(model="scripted", store=True, **fields)


async def test_conversation_goes_on_by_id(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole(calls=[call("calculate_math", SUM)]), whole("It is 2."), whole("Yes."), whole("Bye."))
    first = await create(server, input="1 + 1?", instructions="Be brief", tools=[MATH])
    assert first.store is True
    second = await create(server, input="Sure?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    said = engine.requests[2].json["messages"]
    # Instructions are not carried over.
    assert [message["role"] for message in said] == ["user", "assistant", "tool", "assistant", "user"]
    third = await server.openai.responses.create(
        model="scripted", input="Bye", previous_response_id=second.id
    )
    assert len(engine.requests[3].json["messages"]) == 7
    with pytest.raises(openai.NotFoundError):  # it was not stored
        await server.openai.responses.retrieve(third.id)


async def test_response_is_read_listed_and_deleted(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("Hi."), whole("Ho."))
    first = await create(server, input="Hi")
    second = await create(server, input=[{"role": "user", "content": "Ho"}], previous_response_id=first.id)
    read = await server.openai.responses.retrieve(second.id)
    assert read == second
    assert check(read.model_dump(mode="json", exclude_unset=True)) == "response"
    page = await server.openai.responses.input_items.list(second.id, limit=2)
    assert [item.type async for item in page] == ["message"] * 3
    raw = (await server.http.get(f"/v1/responses/{second.id}/input_items?order=asc")).json()
    for item in raw["data"]:
        ITEM.validate_python(item, strict=True)
    assert [item["role"] for item in raw["data"]] == ["user", "assistant", "user"]
    assert raw["has_more"] is False
    assert (await server.http.delete(f"/v1/responses/{second.id}")).json()["deleted"] is True
    with pytest.raises(openai.NotFoundError):
        await server.openai.responses.retrieve(second.id)
    assert await server.openai.responses.retrieve(first.id) == first


async def test_streamed_response_is_stored_before_its_end(server: Live, engine: ScriptedEngine) -> None:
    engine.play(stream(*text("Hi", ".")))
    body = {"model": "scripted", "input": "Hi", "store": True, "stream": True}
    answer = await server.http.post("/v1/responses", json=body)
    seen = [event for event in events_of(answer.text) if isinstance(event, dict)]
    check_response_events(seen)
    response = seen[-1]["response"]
    assert (await server.http.get(f"/v1/responses/{response['id']}")).json() == response


async def test_response_belongs_to_its_key(engine: ScriptedEngine, tmp_path: Path) -> None:
    keys = ",".join(f"{name}:{hashlib.sha256(name.encode()).hexdigest()}" for name in ("alice", "bob"))
    store = f"sqlite://{tmp_path}/responses.db"
    async with (
        live(engine.url, API_KEYS=keys, RESPONSES_STORE=store) as server,
        live(engine.url, API_KEYS=keys, RESPONSES_STORE=store) as other_task,
    ):
        alice, bob = ({"authorization": f"Bearer {name}"} for name in ("alice", "bob"))
        engine.play(whole("Hi."), whole("Ho."))
        asked = {"model": "scripted", "input": "Hi", "store": True}
        id = (await server.http.post("/v1/responses", json=asked, headers=alice)).json()["id"]
        path = f"/v1/responses/{id}"
        assert (await other_task.http.get(path, headers=alice)).status_code == 200
        assert (await other_task.http.get(path)).status_code == 401
        following = {**asked, "previous_response_id": id}
        for answer in (
            await other_task.http.get(path, headers=bob),
            await other_task.http.get(f"{path}/input_items", headers=bob),
            await other_task.http.delete(path, headers=bob),
            await other_task.http.post("/v1/responses", json=following, headers=bob),
        ):
            assert answer.status_code == 404
            assert check(answer.json()) == "error"
        answer = await other_task.http.post("/v1/responses", json=following, headers=alice)
        assert answer.status_code == 200
    assert [message["content"] for message in engine.requests[-1].json["messages"]] == ["Hi", "Hi.", "Hi"]


@pytest.mark.parametrize(
    ("query", "param"),
    [("order=up", "order"), ("limit=0", "limit"), ("limit=x", "limit"), ("after=x", "after")],
)
async def test_invalid_page(server: Live, engine: ScriptedEngine, query: str, param: str) -> None:
    engine.play(whole("Hi."))
    first = await create(server, input="Hi")
    answer = await server.http.get(f"/v1/responses/{first.id}/input_items?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_unknown_previous_response(server: Live, engine: ScriptedEngine) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await create(server, input="Hi", previous_response_id="resp_0")
    assert caught.value.param == "previous_response_id"
    assert engine.requests == []


async def test_other_methods_are_rejected(server: Live) -> None:
    assert (await server.http.post("/v1/responses/resp_0/cancel")).status_code == 405
    assert (await server.http.delete("/v1/responses/resp_0/input_items")).status_code == 405


async def test_answer_does_not_depend_on_the_store(server: Live, engine: ScriptedEngine) -> None:
    def fail(*_: Any) -> None:
        raise StoreFailed("full")

    server.app._archive._store.put = fail  # type: ignore[union-attr, method-assign]
    engine.play(whole("Hi."))
    response = await create(server, input="Hi")
    assert (response.output_text, response.store) == ("Hi.", False)


async def test_slow_store_does_not_block_the_others(server: Live, engine: ScriptedEngine) -> None:
    release, entered = threading.Event(), threading.Event()

    def wait(*_: Any) -> None:
        entered.set()
        release.wait(10)

    server.app._archive._store.put = wait  # type: ignore[union-attr, method-assign]
    engine.play(whole("Hi."))
    storing = asyncio.create_task(create(server, input="Hi"))
    await asyncio.to_thread(entered.wait, 10)
    assert (await server.http.get("/health")).status_code == 200
    release.set()
    assert (await storing).output_text == "Hi."
