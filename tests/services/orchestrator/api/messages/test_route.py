"""The routes: relays, or the same loop as chat. The official anthropic client reads both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest

from tests.support.anthropic_types import check_error, check_events, check_message
from tests.support.live import Live, events_of, live
from tests.support.scripted_engine import (
    CUT,
    ScriptedEngine,
    body,
    call,
    call_deltas,
    raw_stream,
    stream,
    text,
    whole,
)

Json = dict[str, Any]
KEY = "sk-of-these-tests"
SUM = '{"expression": "1+1"}'
MATH: Any = {"name": "calculate_math"}
MINE: Any = {"name": "my_tool", "input_schema": {"type": "object"}}
HI: Any = [{"role": "user", "content": "Hi"}]
ANSWER: Any = {
    "id": "m", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi"}],
    "model": "scripted", "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 4},
}  # fmt: skip


@pytest.fixture
async def client(server: Live) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="x", max_retries=0) as made:
        yield made


async def ask(server: Live, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    payload = {"model": "scripted", "max_tokens": 99, "messages": HI, **fields}
    return await server.http.post("/v1/messages", json=payload, headers=headers)


async def events(server: Live, **fields: Any) -> list[Json]:
    answer = await ask(server, stream=True, **fields)
    assert answer.status_code == 200, answer.text
    return [event for event in events_of(answer.text) if isinstance(event, dict)]


def framed(*events: Json) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events
    )


async def test_servers_that_a_request_brings_are_not_silently_ignored(
    server: Live, engine: ScriptedEngine
) -> None:
    given = [{"type": "url", "name": "docs", "url": "https://mcp.example.com/mcp"}]
    answer = await ask(server, mcp_servers=given)
    assert answer.status_code == 400
    check_error(answer.json())
    assert "mcp_servers" in answer.json()["error"]["message"]
    engine.play(body(ANSWER))
    assert (await ask(server, headers={"x-tool-execution": "client"}, mcp_servers=given)).json() == ANSWER


async def test_stream_and_whole_answer_have_the_same_content(server: Live, engine: ScriptedEngine) -> None:
    engine.play(
        stream(*text("Let me see."), *call_deltas("calculate_math", SUM)), stream(*text("It", " is 2.")),
        whole("Let me see.", calls=[call("calculate_math", SUM)]), whole("It is 2."),
    )  # fmt: skip
    streamed = check_events(await events(server, tools=[MATH]))
    message = (await ask(server, tools=[MATH])).json()
    check_message(message)
    for answer in (streamed, message):
        first, used, result, last = answer["content"]
        assert (first["text"], last["text"]) == ("Let me see.", "It is 2.")
        assert (used["name"], used["input"]) == ("calculate_math", {"expression": "1+1"})
        assert result["content"] == [{"type": "text", "text": '{"result":2}'}]
        assert answer["stop_reason"] == "end_turn"
        assert answer["usage"] == {"input_tokens": 18, "cache_read_input_tokens": 2, "output_tokens": 10}
    assert engine.requests[0].json["max_tokens"] == 99


@pytest.mark.parametrize("beta", [False, True])
async def test_official_client_continues_a_conversation(
    client: anthropic.AsyncAnthropic, engine: ScriptedEngine, beta: bool
) -> None:
    engine.play(
        whole(calls=[call("calculate_math", SUM)]), whole("It is 2."),
        stream(*text("Yes.")), stream(*text("Bye.")),
    )  # fmt: skip
    api: Any = client.beta.messages if beta else client.messages
    first = await api.create(model="scripted", max_tokens=9, messages=HI, tools=[MATH])
    history = [*HI, {"role": "assistant", "content": first.content}, {"role": "user", "content": "Sure?"}]
    async with api.stream(model="scripted", max_tokens=9, messages=history, tools=[MATH]) as streaming:
        assert "".join([piece async for piece in streaming.text_stream]) == "Yes."
    said = engine.requests[2].json["messages"]
    assert [message["role"] for message in said] == ["user", "assistant", "tool", "assistant", "user"]
    async with api.stream(model="scripted", max_tokens=9, messages=history) as streaming:  # without tools
        assert (await streaming.get_final_message()).content[0].text == "Bye."
    assert "tools" not in engine.requests[3].json


@pytest.mark.parametrize(
    "fields", [{}, {"tools": [MINE]}, {"tools": [MATH], "headers": {"x-tool-execution": "client"}}]
)
async def test_request_without_server_tools_is_relayed(
    server: Live, engine: ScriptedEngine, fields: Json
) -> None:
    sent = json.dumps(ANSWER, indent=1).encode()
    engine.play(body(sent))
    answer = await ask(server, **fields)
    assert answer.content == sent
    assert engine.requests[0].path == "/v1/messages"
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    metrics = await server.metrics()
    assert 'tokens_total{key_name="-",kind="prompt",model="scripted"} 7.0' in metrics


async def test_stream_is_relayed_unchanged_up_to_its_end(server: Live, engine: ScriptedEngine) -> None:
    usage = {"input_tokens": 3, "output_tokens": 2}
    sent = framed(
        {"type": "message_start", "message": {**ANSWER, "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    )
    engine.play(raw_stream(sent), raw_stream(sent.partition(b"event: message_stop")[0]))
    assert (await ask(server, stream=True)).content == sent
    assert 'kind="completion",model="scripted"} 2.0' in await server.metrics()
    *_, last = await events(server)
    check_error(last)
    assert "before it was complete" in last["error"]["message"]


async def test_error_event_of_the_engine_is_an_error_event(server: Live, engine: ScriptedEngine) -> None:
    start = {"type": "message_start", "message": {**ANSWER, "content": []}}
    problem = {"type": "internal_error", "message": "boom"}
    engine.play(raw_stream(framed(start, {"type": "error", "error": problem})))
    *_, last = await events(server)
    check_error(last)
    assert (last["error"]["type"], last["error"]["message"]) == ("api_error", "The engine failed: boom")


async def test_calls_for_the_client_are_left_to_it(server: Live, engine: ScriptedEngine) -> None:
    calls = [call("my_tool", {"x": 1}, id="a"), call("my_tool", {"x": 2}, id="b")]
    engine.play(
        whole(calls=calls),
        stream(*call_deltas("my_tool", '{"x": 1}', 0, "a"), *call_deltas("my_tool", '{"x": 2}', 1, "b")),
    )
    message = (await ask(server, tools=[MATH, MINE])).json()
    assert [(block["type"], block["input"]) for block in message["content"]] == [
        ("tool_use", {"x": 1}), ("tool_use", {"x": 2}),
    ]  # fmt: skip
    assert message["stop_reason"] == "tool_use"
    streamed = check_events(await events(server, tools=[MATH, MINE]))
    assert [json.loads(block["json"]) for block in streamed["content"]] == [{"x": 1}, {"x": 2}]


async def test_tools_are_withheld_with_choice_none(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("Hello."))
    check_message((await ask(server, tools=[MATH], tool_choice={"type": "none"})).json())
    assert "tools" not in engine.requests[0].json


async def test_tokens_are_counted_with_complete_tools(
    client: anthropic.AsyncAnthropic, engine: ScriptedEngine
) -> None:
    engine.play(*[body({"input_tokens": 11})] * 2)
    block = {
        "type": "mcp_tool_use",
        "id": "a",
        "name": "calculate_math",
        "server_name": "tandem",
        "input": {},
    }
    result = {"type": "mcp_tool_result", "tool_use_id": "a", "is_error": False, "content": "2"}
    history: Any = [*HI, {"role": "assistant", "content": [block, result]}]
    count = await client.messages.count_tokens(model="scripted", messages=history, tools=[MATH, MINE])
    assert count.input_tokens == 11
    sent = engine.requests[0].json
    assert engine.requests[0].path == "/v1/messages/count_tokens"
    assert sent["tools"][0]["input_schema"]["required"] == ["expression"]
    assert sent["tools"][1] == MINE
    assert [item["type"] for item in sent["messages"][1]["content"]] == ["tool_use", "tool_result"]
    await client.messages.count_tokens(model="scripted", messages=HI, tools=[MINE])
    assert engine.requests[1].json["tools"] == [MINE]


@pytest.mark.parametrize("tools", [[], [MATH]])
@pytest.mark.parametrize("streaming", [False, True])
async def test_error_of_the_engine_keeps_its_status(
    client: anthropic.AsyncAnthropic, engine: ScriptedEngine, tools: Any, streaming: bool
) -> None:
    engine.play(body({"type": "error", "error": {"type": "NotFoundError", "message": "no such model"}}, 404))
    with pytest.raises(anthropic.NotFoundError) as caught:
        await client.messages.create(model="x", max_tokens=9, messages=HI, tools=tools, stream=streaming)
    error: Any = caught.value.body
    check_error(error)
    assert error["error"] == {"type": "not_found_error", "message": "no such model"}
    assert caught.value.request_id == error["request_id"]


async def test_error_after_the_first_event_is_the_last_event(server: Live, engine: ScriptedEngine) -> None:
    engine.play(stream(*text("It is"), CUT))
    *_, last = await events(server, tools=[MATH])
    check_error(last)
    assert last["error"]["type"] == "api_error"


async def test_deadline_is_an_error_event(engine: ScriptedEngine) -> None:
    async with live(engine.url, REQUEST_TIMEOUT_SECONDS="0.3") as server:
        engine.play(stream(*text("It is"), asyncio.Event()))
        *_, last = await events(server, tools=[MATH])
    assert last["error"]["type"] == "timeout_error"


async def test_key_is_that_of_either_header(engine: ScriptedEngine) -> None:
    async with live(engine.url, BOOTSTRAP_API_KEY=KEY) as server:
        for given in ({"api_key": KEY}, {"auth_token": KEY}):
            engine.play(body(ANSWER))
            async with anthropic.AsyncAnthropic(base_url=server.url, **given) as client:  # type: ignore[arg-type]
                message = await client.messages.create(model="scripted", max_tokens=9, messages=HI)
            assert message.content[0].type == "text"
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="wrong") as client:
            with pytest.raises(anthropic.AuthenticationError) as caught:
                await client.messages.create(model="scripted", max_tokens=9, messages=HI)
    error: Any = caught.value.body
    check_error(error)
    assert error["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/messages"), ("GET", "/v1/messages/count_tokens")])
async def test_other_methods_are_rejected_in_anthropics_format(server: Live, method: str, path: str) -> None:
    answer = await server.http.request(method, path)
    assert answer.status_code == 405
    check_error(answer.json())


async def test_invalid_request_names_the_field(server: Live) -> None:
    answer = await ask(server, tools=[MATH, {"type": "web_search_20250305", "name": "web_search"}])
    assert answer.status_code == 400
    check_error(answer.json())
    assert "tools[1]" in answer.json()["error"]["message"]


async def test_misspelt_tool_gets_a_hint_in_a_header(server: Live, engine: ScriptedEngine) -> None:
    engine.otherwise = body(ANSWER)
    misspelt: Any = {"name": "calculate_meth", "input_schema": {"type": "object"}}
    for tools in ([misspelt, {"type": "bash_20250124", "name": "bash"}], [MATH, misspelt]):
        engine.play(body(ANSWER) if len(engine.requests) == 0 else whole("Hi"))
        answer = await ask(server, tools=tools)
        assert answer.status_code == 200, answer.text
        assert "did you mean calculate_math?" in answer.headers["x-tool-hint"]
    without: Any = ({"tools": [MINE]}, {})
    for fields in without:
        assert "x-tool-hint" not in (await ask(server, **fields)).headers
    answer = await ask(server, headers={"X-Tool-Execution": "client"}, tools=[misspelt])
    assert "x-tool-hint" not in answer.headers
