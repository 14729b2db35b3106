"""The route: a relay, or the same loop as chat. The official client reads both."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from tests.support import open_responses
from tests.support.live import Live, events_of, live
from tests.support.openai_types import check, check_response_events
from tests.support.scripted_engine import (
    CUT,
    ScriptedEngine,
    after,
    body,
    call,
    call_deltas,
    raw_stream,
    stream,
    text,
    whole,
)

Json = dict[str, Any]
SUM = '{"expression": "1+1"}'
MATH: Any = {"type": "function", "name": "calculate_math"}
MINE: Any = {"type": "function", "name": "my_tool", "parameters": {"type": "object"}}


async def ask(server: Live, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    payload = {"model": "scripted", "input": "Hi", **fields}
    return await server.http.post("/v1/responses", json=payload, headers=headers)


async def events(server: Live, **fields: Any) -> list[Json]:
    answer = await ask(server, stream=True, **fields)
    assert answer.status_code == 200, answer.text
    return [event for event in events_of(answer.text) if isinstance(event, dict)]


def types_of(output: Any) -> list[str]:
    return [item["type"] for item in output]


async def test_stream_and_whole_answer_have_the_same_content(server: Live, engine: ScriptedEngine) -> None:
    engine.play(
        stream(*text("Let me see."), *call_deltas("calculate_math", SUM)), stream(*text("It", " is 2.")),
        whole("Let me see.", calls=[call("calculate_math", SUM)]), whole("It is 2."),
    )  # fmt: skip
    streamed = await events(server, tools=[MATH])
    check_response_events(streamed)
    answer = (await ask(server, tools=[MATH])).json()
    check(answer)
    for response in (streamed[-1]["response"], answer):
        assert types_of(response["output"]) == ["message", "mcp_call", "message"]
        assert response["output"][1]["output"] == '{"result":2}'
        assert response["output"][2]["content"][0]["text"] == "It is 2."
        assert response["usage"]["input_tokens"] == 20
    assert engine.requests[1].json["messages"][1:] == engine.requests[3].json["messages"][1:]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": [MINE]},
        {"tools": [MINE, {"type": "custom", "name": "patch"}], "store": False},
        {"tools": [MATH], "headers": {"x-tool-execution": "client"}},
    ],
)
async def test_request_without_server_tools_is_relayed(
    server: Live, engine: ScriptedEngine, fields: Json
) -> None:
    answer = b'{"id":"resp_1",  "object":"response"}'
    engine.play(body(answer))
    relayed = await ask(server, **fields)
    assert relayed.content == answer
    assert engine.requests[0].path == "/v1/responses"


async def test_relayed_stream_is_unchanged(server: Live, engine: ScriptedEngine) -> None:
    sent = b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"r"}}\n\n'
    engine.play(raw_stream(sent))
    assert (await ask(server, stream=True, tools=[MINE])).content == sent


async def test_official_client_accumulates_the_stream(server: Live, engine: ScriptedEngine) -> None:
    engine.play(
        stream({"reasoning": "Hm"}, *text("Let me see."), *call_deltas("calculate_math", SUM)),
        stream(*text("It", " is 2.")),
    )
    async with server.openai.responses.stream(model="scripted", input="Hi", tools=[MATH]) as streaming:
        seen = [event.type async for event in streaming]
        final = await streaming.get_final_response()
    assert seen[0] == "response.created"
    assert [item.type for item in final.output] == ["reasoning", "message", "mcp_call", "message"]
    assert final.output_text == "Let me see.It is 2."


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_text_reasoning_and_function_calls_match_open_responses(
    server: Live, engine: ScriptedEngine, streaming: bool
) -> None:
    tools = [MATH, MINE]
    if streaming:
        engine.play(stream({"reasoning": "Hm"}, *text("Let me see."), *call_deltas("my_tool", "{}")))
        seen = await events(server, tools=tools)
        others = open_responses.check_events(seen)
        assert others == {"response.reasoning_text.delta", "response.reasoning_text.done"}
        response = seen[-1]["response"]
    else:
        engine.play(whole("Let me see.", calls=[call("my_tool", "{}")], reasoning="Hm"))
        response = (await ask(server, tools=tools)).json()
    open_responses.check_response(response)
    assert types_of(response["output"]) == ["reasoning", "message", "function_call"]


async def test_next_request_repeats_the_output(server: Live, engine: ScriptedEngine) -> None:
    """A stateless conversation: the client sends back what it got."""
    engine.play(whole(calls=[call("calculate_math", SUM)], reasoning="Hm"), whole("It is 2."), whole("Yes."))
    client = server.openai.responses
    history: Any = [{"role": "user", "content": "1 + 1?"}]
    first = await client.create(model="scripted", input=history, tools=[MATH])
    history += [item.model_dump(exclude_unset=True) for item in first.output]
    history.append({"role": "user", "content": "Sure?"})
    second = await client.create(model="scripted", input=history, tools=[MATH])
    assert second.output_text == "Yes."
    said = engine.requests[-1].json["messages"]
    assert [message["role"] for message in said] == ["user", "assistant", "tool", "assistant", "user"]
    assert said[1]["reasoning"] == "Hm"
    assert said[2]["content"] == '{"result":2}'


@pytest.mark.parametrize("streaming", [False, True])
async def test_calls_for_the_client_are_left_to_it(
    server: Live, engine: ScriptedEngine, streaming: bool
) -> None:
    calls = [call("my_tool", {"x": 1}, id="a"), call("my_tool", {"x": 2}, id="b")]
    engine.play(
        stream(*call_deltas("my_tool", '{"x": 1}', 0, "a"), *call_deltas("my_tool", '{"x": 2}', 1, "b"))
        if streaming
        else whole(calls=calls)
    )
    if streaming:
        seen = await events(server, tools=[MATH, MINE])
        check_response_events(seen)
        response = seen[-1]["response"]
    else:
        response = (await ask(server, tools=[MATH, MINE])).json()
    assert response["status"] == "completed"
    assert [(item["type"], item["arguments"]) for item in response["output"]] == [
        ("function_call", '{"x": 1}'), ("function_call", '{"x": 2}'),
    ]  # fmt: skip


@pytest.mark.parametrize("streaming", [False, True])
async def test_turn_with_calls_of_both_sides(server: Live, engine: ScriptedEngine, streaming: bool) -> None:
    """Not all clients repeat the server's call with its result, so the client's call carries it, too."""
    calls = [call("calculate_math", SUM, id="a"), call("my_tool", {"x": 1}, id="b")]
    deltas = [*call_deltas("calculate_math", SUM, 0, "a"), *call_deltas("my_tool", '{"x": 1}', 1, "b")]
    engine.play(stream(*deltas) if streaming else whole(calls=calls), whole("Done."))
    if streaming:
        seen = await events(server, tools=[MATH, MINE])
        check_response_events(seen)
        output = seen[-1]["response"]["output"]
    else:
        output = (await ask(server, tools=[MATH, MINE])).json()["output"]
    assert types_of(output) == ["mcp_call", "function_call"]
    result = {"type": "function_call_output", "call_id": output[1]["call_id"], "output": "9"}
    without_result = {**output[0], "output": None}
    for kept in (output, [without_result, output[1]], output[1:]):
        engine.play(whole("Done."))
        await ask(server, input=[{"role": "user", "content": "Hi"}, *kept, result], tools=[MATH, MINE])
        said = engine.requests[-1].json["messages"]
        assert [message["role"] for message in said] == ["user", "assistant", "tool", "tool"]
        assert [message.get("content") for message in said[2:]] == ['{"result":2}', "9"]
        assert [call["id"] for call in said[1]["tool_calls"]] == ["b-1-0", "b"]


async def test_carried_calls_survive_a_request_without_tools_of_the_server(
    server: Live, engine: ScriptedEngine
) -> None:
    calls = [call("calculate_math", SUM, id="a"), call("my_tool", {"x": 1}, id="b")]
    engine.play(whole(calls=calls), whole("Done."))
    [_, mine] = (await ask(server, tools=[MATH, MINE])).json()["output"]
    result = {"type": "function_call_output", "call_id": mine["call_id"], "output": "9"}
    await ask(server, input=[mine, result], tools=[MINE])
    assert engine.requests[-1].json["messages"][1]["content"] == '{"result":2}'


async def test_cut_answer_is_incomplete(server: Live, engine: ScriptedEngine) -> None:
    engine.play(stream(*text("It is"), finish="length"))
    response = (await events(server, tools=[MATH], max_output_tokens=2))[-1]["response"]
    assert (response["status"], response["incomplete_details"]["reason"]) == (
        "incomplete",
        "max_output_tokens",
    )
    assert engine.requests[0].json["max_completion_tokens"] == 2


async def test_limit_of_calls_ends_the_loop(server: Live, engine: ScriptedEngine) -> None:
    several = [call("calculate_math", {"expression": f"{n}+1"}, id=str(n)) for n in range(3)]
    engine.play(whole(calls=several), whole("Enough."))
    response = (await ask(server, tools=[MATH], max_tool_calls=2)).json()
    assert types_of(response["output"]) == ["mcp_call", "mcp_call", "message"]
    assert "tools" not in engine.requests[1].json


async def test_tools_are_withheld_with_choice_none(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("Hello."))
    response = (await ask(server, tools=[MATH], tool_choice="none")).json()
    assert check(response) == "response"
    assert (response["tool_choice"], response["tools"][0]["name"]) == ("none", "calculate_math")
    assert "tools" not in engine.requests[0].json


async def test_attached_tools_run(engine: ScriptedEngine) -> None:
    async with live(engine.url, ATTACH_TOOLS="calculate_math") as server:
        engine.play(whole(calls=[call("calculate_math", SUM)]), whole("2"))
        response = (await ask(server)).json()
    assert types_of(response["output"]) == ["mcp_call", "message"]


async def test_log_probabilities_of_the_last_text(server: Live, engine: ScriptedEngine) -> None:
    entry = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
    logprobs = {"content": [entry]}
    piece = {"index": 0, "delta": {"content": "Hi"}, "logprobs": logprobs, "finish_reason": None}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [piece]}
    engine.play(stream(b"data: " + json.dumps(chunk).encode() + b"\n\n"))
    response = (await ask(server, tools=[MATH], include=["message.output_text.logprobs"])).json()
    check(response)
    assert response["output"][0]["content"][0]["logprobs"] == [entry]
    assert engine.requests[0].json["logprobs"] is True


async def test_error_before_the_first_event_keeps_its_status(server: Live, engine: ScriptedEngine) -> None:
    error = {"error": {"message": "too long", "type": "invalid_request_error", "code": 400}}
    for streaming in (False, True):
        engine.play(body(error, 400))
        answer = await ask(server, tools=[MATH], stream=streaming)
        assert answer.status_code == 400
        assert check(answer.json()) == "error"


async def test_error_after_the_first_event_fails_the_response(server: Live, engine: ScriptedEngine) -> None:
    engine.play(stream(*text("It is"), CUT))
    seen = await events(server, tools=[MATH])
    assert check_response_events(seen)[-1] == "response.failed"
    assert seen[-1]["response"]["error"]["code"] == "server_error"
    assert seen[-1]["response"]["output"][0]["content"][0]["text"] == "It is"


async def test_deadline_fails_the_response(engine: ScriptedEngine) -> None:
    async with live(engine.url, REQUEST_TIMEOUT_SECONDS="0.3") as server:
        engine.play(stream(*text("It is"), asyncio.Event()))
        seen = await events(server, tools=[MATH])
    assert check_response_events(seen)[-1] == "response.failed"
    assert "REQUEST_TIMEOUT_SECONDS" in seen[-1]["response"]["error"]["message"]


async def test_silence_before_an_error_is_filled_with_heartbeats(engine: ScriptedEngine) -> None:
    async with live(engine.url, HEARTBEAT_SECONDS="0.05") as server:
        waiting = asyncio.Event()
        asyncio.get_running_loop().call_later(0.2, waiting.set)
        engine.play(after(waiting, body({"error": {"message": "no", "code": 400}}, 400)))
        answer = await ask(server, tools=[MATH], stream=True)
    seen = events_of(answer.text)
    assert ": keep-alive" in seen
    assert (
        check_response_events([event for event in seen if isinstance(event, dict)])[-1] == "response.failed"
    )


@pytest.mark.parametrize(
    "fields", [{"store": True}, {"background": True}, {"previous_response_id": "resp_1"}]
)
async def test_what_is_not_kept_is_a_clear_error(engine: ScriptedEngine, fields: Json) -> None:
    async with live(engine.url, RESPONSES_STORE="none") as server:
        with pytest.raises(openai.BadRequestError) as caught:
            await server.openai.responses.create(model="scripted", input="Hi", **fields)
        assert caught.value.param == next(iter(fields))
        with pytest.raises(openai.BadRequestError):
            await server.openai.responses.retrieve("resp_1")
    assert engine.requests == []


async def test_requests_and_calls_are_counted(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole(calls=[call("calculate_math", SUM)]), whole("2"))
    await ask(server, tools=[MATH])
    metrics = await server.metrics()
    assert 'requests_total{key_name="-",route="/v1/responses",status="200"} 1.0' in metrics
    assert 'tool_calls_total{outcome="ok",tool_name="calculate_math"} 1.0' in metrics


async def test_misspelt_tool_gets_a_hint_in_a_header(server: Live, engine: ScriptedEngine) -> None:
    relayed = {"object": "response", "id": "r", "output": [], "model": "scripted"}
    misspelt: Any = {"type": "function", "name": "calculate_meth"}
    engine.play(body(relayed), whole("Hi"))
    for tools in ([misspelt, {"type": "web_search"}], [MATH, misspelt]):
        answer = await ask(server, tools=tools)
        assert answer.status_code == 200, answer.text
        assert "did you mean calculate_math?" in answer.headers["x-tool-hint"]
    engine.otherwise = body(relayed)
    without: Any = ({"tools": [MINE]}, {}, {"tools": "x"})
    for fields in without:
        assert "x-tool-hint" not in (await ask(server, **fields)).headers
    answer = await ask(server, headers={"X-Tool-Execution": "client"}, tools=[misspelt])
    assert "x-tool-hint" not in answer.headers
