"""Open WebUI's requests to a live server whose engine is scripted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from tests.support.live import Live, live
from tests.support.scripted_engine import ScriptedEngine, body, call_deltas, stream, text, whole

from .open_webui.recorded import NAMES, RECORDED, OpenWebUI, sent

KEY = "sk-a-key-for-open-webui"
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def webui(server: Live) -> AsyncIterator[OpenWebUI]:
    client = OpenWebUI(server.url)
    yield client
    await client.close()


def test_requests_are_those_of_the_version_that_compose_starts() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert services["open-webui"]["image"] == f"ghcr.io/open-webui/open-webui:v{RECORDED['version']}"


async def test_models_are_listed_in_the_form_it_reads(webui: OpenWebUI) -> None:
    answer = (await webui.send("models")).json()
    assert "error" not in answer
    assert [model["id"] for model in answer["data"]] == ["scripted"]
    # It would show these as a name, a pipeline, or a state of another provider.
    assert not {"name", "pipeline", "status", "loaded_instances"} & answer["data"][0].keys()


@pytest.mark.parametrize("name", ["chat", "chat_with_parameters", "chat_with_image"])
async def test_chat_streams_and_every_field_reaches_the_engine(
    webui: OpenWebUI, engine: ScriptedEngine, name: str
) -> None:
    engine.play(stream({"reasoning": "thinking"}, *text("12 ", "degrees")))
    shown = await webui.read(name)
    assert (shown.reasoning, shown.content, shown.finish) == ("thinking", "12 degrees", "stop")
    assert shown.errors == []
    (request,) = engine.requests
    # The server asks the engine for the usage in any case, since it counts it.
    asked = {**sent(name), "stream_options": request.json["stream_options"]}
    assert {field: request.json.get(field) for field in asked} == asked
    assert bool(shown.usage) == ("stream_options" in sent(name))


async def test_its_own_tools_are_left_to_it_and_their_results_are_passed_on(
    webui: OpenWebUI, engine: ScriptedEngine
) -> None:
    engine.play(
        stream(*call_deltas("search_chats", '{"query":"Paris"}'), finish="tool_calls"),
        stream(*text("It is noon.")),
    )
    shown = await webui.read("chat_with_tools")
    (call,) = shown.calls
    assert (call["name"], json.loads(call["arguments"]), call["index"]) == (
        "search_chats",
        {"query": "Paris"},
        0,
    )
    assert (call["id"], shown.finish) == ("call-1", "tool_calls")
    assert (await webui.read("chat_after_tools")).content == "It is noon."
    _, second = engine.requests
    assert second.json["messages"] == sent("chat_after_tools")["messages"]
    assert second.json["tools"] == sent("chat_after_tools")["tools"]


async def test_tools_of_the_server_run_in_a_chat_without_tools(engine: ScriptedEngine) -> None:
    engine.play(
        stream(*call_deltas("calculate_math", '{"expression":"6*7"}'), finish="tool_calls"),
        stream(*text("It is 42.")),
    )
    async with live(engine.url, ATTACH_TOOLS="all") as server:
        webui = OpenWebUI(server.url)
        shown = await webui.read("chat")
        await webui.close()
    assert (shown.content, shown.calls, shown.finish) == ("It is 42.", [], "stop")
    assert json.loads(engine.requests[1].json["messages"][-1]["content"]) == {"result": 42}


@pytest.mark.parametrize("name", ["title", "tags", "follow_ups", "emoji"])
@pytest.mark.parametrize("attached", ["", "all"])
async def test_tasks_get_the_models_text(engine: ScriptedEngine, name: str, attached: str) -> None:
    engine.play(whole('{"title": "Weather in Paris"}'))
    async with live(engine.url, ATTACH_TOOLS=attached) as server:
        webui = OpenWebUI(server.url)
        answer = await webui.send(name)
        await webui.close()
    message = answer.json()["choices"][0]["message"]
    assert json.loads(message["content"]) == {"title": "Weather in Paris"}
    assert not message.get("tool_calls")
    assert engine.requests[0].json.get("max_tokens") == sent(name).get("max_tokens")
    assert bool(engine.requests[0].json.get("tools")) == bool(attached)


async def test_stop_button_stops_the_engine(webui: OpenWebUI, engine: ScriptedEngine) -> None:
    engine.play(stream(*text("half an ans"), asyncio.Event()))
    shown = await webui.read("chat", until="half")
    assert shown.content == "half an ans"
    async with asyncio.timeout(10):
        await engine.aborted.wait()


async def test_errors_have_a_message_that_it_shows(webui: OpenWebUI, engine: ScriptedEngine) -> None:
    engine.play(body({"error": {"message": "The context is too long", "code": 400}}, 400))
    refused = await webui.send("chat")
    assert refused.status_code == 400
    assert "The context is too long" in refused.json()["error"]["message"]
    engine.play(stream(*text("half"), b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'))
    shown = await webui.read("chat")
    assert shown.content == "half"
    assert ["out of memory" in error["message"] for error in shown.errors] == [True]


async def test_embeddings_are_passed_on_in_batches(webui: OpenWebUI, engine: ScriptedEngine) -> None:
    rows = [{"object": "embedding", "index": index, "embedding": [0.5, index]} for index in range(2)]
    engine.play(body({"object": "list", "data": rows, "model": "scripted", "usage": {"prompt_tokens": 4}}))
    answer = await webui.send("embeddings")
    assert [row["embedding"] for row in answer.json()["data"]] == [[0.5, 0], [0.5, 1]]
    assert engine.requests[0].json == sent("embeddings")


async def test_connection_of_the_responses_type_is_passed_on(
    webui: OpenWebUI, engine: ScriptedEngine
) -> None:
    event = b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_1"}}\n\n'
    engine.play(body(event, content_type="text/event-stream"))
    answer = await webui.send("responses")
    assert answer.status_code == 200, answer.text
    assert '"response.completed"' in answer.text
    (request,) = engine.requests
    assert request.path == "/v1/responses"
    assert {field: request.json.get(field) for field in sent("responses")} == sent("responses")


@pytest.mark.parametrize("name", NAMES)
async def test_server_with_keys_takes_its_key_and_the_headers_about_the_user(
    engine: ScriptedEngine, name: str
) -> None:
    streamed = (sent(name) or {}).get("stream")
    engine.otherwise = stream(*text("ok")) if streamed else whole("ok")
    async with live(engine.url, BOOTSTRAP_API_KEY=KEY) as server:
        # The list of models needs no key.
        rejected = 200 if name == "models" else 401
        for key, status in ((KEY, 200), ("sk-wrong", rejected), ("", rejected)):
            webui = OpenWebUI(server.url, key=key, forwards=True)
            answer = await webui.send(name)
            await webui.close()
            assert answer.status_code == status, answer.text
    assert not any("openwebui" in header for request in engine.requests for header in request.headers)
