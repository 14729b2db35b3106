"""The rules of the loop, against an engine that plays a script, over the wire."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.live import Json, Live, events_of, live, text_of
from tests.support.scripted_engine import (
    CUT,
    NO_DONE,
    Exchange,
    ScriptedEngine,
    body,
    call,
    call_deltas,
    chunk,
    cut,
    raw_stream,
    stream,
    text,
    whole,
)

WEATHER: Any = {"type": "function", "function": {"name": "get_current_weather"}}
MATH: Any = {"type": "function", "function": {"name": "calculate_math"}}
MINE: Any = {
    "type": "function",
    "function": {
        "name": "my_tool",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
    },
}
SUM = '{"expression": "1+1"}'
TAGGED = f'<tool_call>{{"name": "calculate_math", "arguments": {SUM}}}</tool_call>'


def tool_messages(engine: ScriptedEngine, request: int) -> list[Json]:
    return [m for m in engine.requests[request].json["messages"] if m["role"] == "tool"]


async def test_call_is_run_and_its_result_goes_back(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole(calls=[call("calculate_math", {"expression": "123 * 456"})]), whole("It is 56088."))
    answer = (await server.chat("Calculate 123 * 456", tools=[MATH])).json()
    assert answer["choices"][0]["message"]["content"] == "It is 56088."
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert "tool_calls" not in answer["choices"][0]["message"]
    assert "tandem" not in answer
    history = engine.requests[1].json["messages"]
    assert [message["role"] for message in history] == ["user", "assistant", "tool"]
    assert history[1]["tool_calls"][0]["id"] == history[2]["tool_call_id"] == "call-1"
    assert json.loads(history[2]["content"]) == {"result": 56088}


async def test_streamed_answer_is_one_answer_over_all_rounds(server: Live, engine: ScriptedEngine) -> None:
    engine.play(
        stream(*text("One ", "moment."), *call_deltas("calculate_math", SUM), finish="tool_calls"),
        stream(*text("It is", " 2."), usage=(20, 7)),
    )
    events = await server.chat_events(tools=[MATH], stream_options={"include_usage": True})
    assert events[-1] == "[DONE]"
    chunks: list[Any] = events[:-1]
    assert text_of(events) == "One moment.\n\nIt is 2."
    assert len({(c["id"], c["created"], c["model"], c["object"]) for c in chunks}) == 1
    deltas = [c["choices"][0]["delta"] for c in chunks if c["choices"]]
    assert sum("role" in delta for delta in deltas) == 1
    assert not any("tool_calls" in delta for delta in deltas)
    reasons = [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]]
    assert [reason for reason in reasons if reason] == ["stop"]
    usages = [c["usage"] for c in chunks if c.get("usage")]
    assert usages == [
        {
            "prompt_tokens": 30,
            "total_tokens": 42,
            "completion_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 2},
        }
    ]
    assert chunks[-1]["usage"] == usages[0]


async def test_usage_is_not_told_unasked_and_always_summed(server: Live, engine: ScriptedEngine) -> None:
    replies = [stream(*call_deltas("calculate_math", SUM)), stream(*text("2"))]
    engine.play(*replies)
    events = await server.chat_events(tools=[MATH])
    assert not any(isinstance(event, dict) and event.get("usage") for event in events)
    engine.play(whole(calls=[call("calculate_math", SUM)], usage=(10, 5)), whole("2", usage=(20, 7)))
    answer = (await server.chat(tools=[MATH])).json()
    assert answer["usage"]["total_tokens"] == 42
    metrics = await server.metrics()
    assert 'tokens_total{key_name="-",kind="prompt",model="scripted"} 50.0' in metrics
    assert 'tokens_total{key_name="-",kind="completion",model="scripted"} 22.0' in metrics


async def test_what_comes_next_is_decided_by_the_calls(server: Live, engine: ScriptedEngine) -> None:
    # A named function gives `stop` with a call; `tool_calls` with an empty list has none.
    engine.play(whole("", calls=[call("calculate_math", SUM)], finish="stop"), whole("2"))
    choice = {"type": "function", "function": {"name": "calculate_math"}}
    answer = (await server.chat(tools=[MATH], tool_choice=choice)).json()
    assert answer["choices"][0]["message"]["content"] == "2"
    engine.play(whole("Nothing to do.", calls=[], finish="tool_calls"))
    answer = (await server.chat(tools=[MATH])).json()
    assert answer["choices"][0]["message"]["content"] == "Nothing to do."
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert not answer["choices"][0]["message"].get("tool_calls")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "calculate_math"}}])
async def test_forced_choice_holds_for_the_first_round_only(
    server: Live, engine: ScriptedEngine, choice: object
) -> None:
    engine.play(whole("", calls=[call("calculate_math", SUM)], finish="stop"), whole("2"))
    await server.chat(tools=[MATH], tool_choice=choice, parallel_tool_calls=False)
    assert engine.requests[0].json["tool_choice"] == choice
    assert engine.requests[1].json.get("tool_choice", "auto") == "auto"
    assert engine.requests[1].json["tools"]
    assert all(request.json["parallel_tool_calls"] is False for request in engine.requests)


async def test_results_stand_in_the_order_of_the_calls(server: Live, engine: ScriptedEngine) -> None:
    expressions = ["1+0", "1+1", "1+2"]
    calls = [call("calculate_math", {"expression": e}, id=f"c{i}") for i, e in enumerate(expressions)]
    engine.play(whole(calls=calls), whole("done"))
    await server.chat(tools=[MATH])
    told = [(m["tool_call_id"], json.loads(m["content"])["result"]) for m in tool_messages(engine, 1)]
    assert told == [("c0", 1), ("c1", 2), ("c2", 3)]


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(order=st.permutations([0, 1, 2, 3]))
async def test_any_order_of_finishing_gives_messages_in_call_order(
    server: Live, engine: ScriptedEngine, order: list[int]
) -> None:
    toolbox = server.server.config.app._toolbox  # type: ignore[union-attr]
    original = toolbox.call
    turns = [asyncio.Event() for _ in range(len(order) + 1)]
    turns[0].set()

    async def call_in_order(name: str, arguments: str, *, request_id: str) -> Any:
        place = order.index(int(json.loads(arguments)["expression"]))
        await turns[place].wait()
        result = await original(name, arguments, request_id=request_id)
        turns[place + 1].set()
        return result

    toolbox.call = call_in_order
    try:
        calls = [call("calculate_math", {"expression": str(i)}, id=f"c{i}") for i in range(4)]
        engine.play(whole(calls=calls), whole("done"))
        await server.chat(tools=[MATH])
    finally:
        toolbox.call = original
    request = len(engine.requests) - 1
    assert [m["tool_call_id"] for m in tool_messages(engine, request)] == ["c0", "c1", "c2", "c3"]
    assert [json.loads(m["content"])["result"] for m in tool_messages(engine, request)] == [0, 1, 2, 3]


async def test_equal_calls_run_once_and_answer_each(server: Live, engine: ScriptedEngine) -> None:
    calls = [call("calculate_math", SUM, id="a"), call("calculate_math", '{"expression":"1+1"}', id="b")]
    engine.play(whole(calls=calls), whole("done"))
    await server.chat(tools=[MATH])
    assert [m["tool_call_id"] for m in tool_messages(engine, 1)] == ["a", "b"]
    assert 'tool_calls_total{outcome="ok",tool_name="calculate_math"} 1.0' in await server.metrics()


@pytest.mark.parametrize("streaming", [False, True])
async def test_mixed_turn_gives_the_client_its_calls_and_runs_none(
    server: Live, engine: ScriptedEngine, streaming: bool
) -> None:
    mine = '{"x": 1}'
    if streaming:
        engine.play(
            stream(
                *call_deltas("calculate_math", SUM, 0, "a"),
                *call_deltas("my_tool", mine, 1, "b"),
                *call_deltas("my_tool", '{"x": 2}', 2, "c"),
                finish="tool_calls",
            )
        )
        answer = await server.openai.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], tools=[MATH, MINE], stream=True
        )
        calls: dict[int, list[str]] = {}
        reasons = []
        async for part in answer:
            reasons.append(part.choices[0].finish_reason)
            for delta in part.choices[0].delta.tool_calls or []:
                entry = calls.setdefault(delta.index, ["", ""])
                entry[0] += (delta.function and delta.function.name) or ""
                entry[1] += (delta.function and delta.function.arguments) or ""
        assert calls == {0: ["my_tool", mine], 1: ["my_tool", '{"x": 2}']}
        assert reasons[-1] == "tool_calls"
        assert set(reasons[:-1]) == {None}
    else:
        engine.play(
            whole(
                calls=[
                    call("calculate_math", SUM, "a"),
                    call("my_tool", mine, "b"),
                    call("my_tool", '{"x": 2}', "c"),
                ]
            )
        )
        choice = (await server.chat(tools=[MATH, MINE])).json()["choices"][0]
        assert [c["id"] for c in choice["message"]["tool_calls"]] == ["b", "c"]
        assert choice["finish_reason"] == "tool_calls"
    assert len(engine.requests) == 1
    assert 'tool_name="calculate_math"' not in await server.metrics()


async def test_call_without_arguments_reaches_the_client_as_an_empty_object(
    server: Live, engine: ScriptedEngine
) -> None:
    first = {"id": "b", "type": "function", "index": 0, "function": {"name": "my_tool"}}
    engine.play(stream({"tool_calls": [first]}, finish="tool_calls"))
    events = await server.chat_events(tools=[MATH, MINE])
    pieces = [
        piece.get("function", {}).get("arguments", "")
        for event in events
        if isinstance(event, dict)
        for piece in event["choices"][0]["delta"].get("tool_calls", [])
    ]
    assert "".join(pieces) == "{}"


async def test_after_the_last_round_the_model_is_asked_without_tools(engine: ScriptedEngine) -> None:
    numbers = itertools.count()

    async def call_again(exchange: Exchange) -> None:
        if exchange.request.json.get("tools"):
            reply = whole(calls=[call("calculate_math", {"expression": f"1+{next(numbers)}"})])
        else:
            reply = whole(f"I give up. {TAGGED}")
        await reply(exchange)

    engine.otherwise = call_again
    async with live(engine.url, MAX_TOOL_ROUNDS="3") as server:
        answer = (await server.chat(tools=[MATH], tool_choice="auto", parallel_tool_calls=True)).json()
    assert answer["choices"][0]["message"]["content"] == "I give up. "
    assert len(engine.requests) == 4
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(engine.requests[3].json)
    assert len(tool_messages(engine, 3)) == 3


@pytest.mark.parametrize("streaming", [False, True])
async def test_last_ask_that_gives_only_a_call_is_explained(engine: ScriptedEngine, streaming: bool) -> None:
    if streaming:
        engine.play(stream(*call_deltas("calculate_math", SUM)), stream(*text(TAGGED)))
    else:
        engine.play(whole(calls=[call("calculate_math", SUM)]), whole(TAGGED))
    async with live(engine.url, MAX_TOOL_ROUNDS="1") as server:
        if streaming:
            content = text_of(await server.chat_events(tools=[MATH]))
        else:
            content = (await server.chat(tools=[MATH])).json()["choices"][0]["message"]["content"]
    assert content == "(The limit of 1 rounds of tool calls was reached, and the model gave no answer.)"


async def test_same_call_three_times_running_ends_the_loop(server: Live, engine: ScriptedEngine) -> None:
    same = whole(calls=[call("calculate_math", SUM)])
    engine.play(same, same, same, whole("All right: 2."))
    answer = (await server.chat(tools=[MATH])).json()
    assert answer["choices"][0]["message"]["content"] == "All right: 2."
    assert "tools" in engine.requests[2].json
    assert "tools" not in engine.requests[3].json


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ('{"expression": "1+', "JSON"),
        ("Infinity", "JSON"),
        ('["1+1"]', "object"),
        ('{"expr": "1+1"}', "expression"),
        ('{"expression": "1/0"}', "zero"),
    ],
)
async def test_the_models_mistake_goes_back_to_the_model(
    server: Live, engine: ScriptedEngine, arguments: str, said: str
) -> None:
    engine.play(whole(calls=[call("calculate_math", arguments)]), whole("Sorry."))
    assert (await server.chat(tools=[MATH])).status_code == 200
    history = engine.requests[1].json["messages"]
    assert said in json.loads(history[2]["content"])["error"]
    replayed = json.loads(history[1]["tool_calls"][0]["function"]["arguments"])
    assert isinstance(replayed, dict)


@pytest.mark.parametrize("arguments", ["", "{}", '"{\\"expression\\": \\"1+1\\"}"'])
async def test_odd_but_clear_arguments_are_understood(
    server: Live, engine: ScriptedEngine, arguments: str
) -> None:
    engine.play(whole(calls=[call("calculate_math", arguments)]), whole("ok"))
    await server.chat(tools=[MATH])
    history = engine.requests[1].json["messages"]
    replayed = json.loads(history[1]["tool_calls"][0]["function"]["arguments"])
    assert replayed == ({} if arguments in ("", "{}") else {"expression": "1+1"})


async def test_call_without_arguments_key_is_an_empty_object(server: Live, engine: ScriptedEngine) -> None:
    first = {"id": "a", "type": "function", "index": 0, "function": {"name": "calculate_math"}}
    engine.play(stream({"tool_calls": [first]}, finish="tool_calls"), stream(*text("ok")))
    await server.chat_events(tools=[MATH])
    assistant = engine.requests[1].json["messages"][1]
    assert assistant["tool_calls"][0]["function"]["arguments"] == "{}"


async def test_name_that_nobody_has_goes_back_to_the_model(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole(calls=[call("no_such_tool", {})]), whole("Sorry."))
    await server.chat(tools=[MATH])
    error = json.loads(tool_messages(engine, 1)[0]["content"])["error"]
    assert "no_such_tool" in error
    assert "calculate_math" in error


async def test_empty_list_of_calls_is_never_sent(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("ok"))
    history = [{"role": "assistant", "content": "Hi", "tool_calls": []}, {"role": "user", "content": "x"}]
    await server.http.post("/v1/chat/completions", json={"messages": history, "tools": [MATH]})
    assert engine.requests[0].json["messages"] == [{"role": "assistant", "content": "Hi"}, history[1]]


@pytest.mark.parametrize("streaming", [False, True])
async def test_call_cut_by_length_is_not_run(server: Live, engine: ScriptedEngine, streaming: bool) -> None:
    if streaming:
        engine.play(stream(*call_deltas("calculate_math", SUM), finish="length"))
        events: list[Any] = await server.chat_events(tools=[MATH])
        reason = events[-2]["choices"][0]["finish_reason"]
        assert not any("tool_calls" in e["choices"][0]["delta"] for e in events[:-1])
    else:
        engine.play(whole(calls=[call("calculate_math", SUM)], finish="length"))
        choice = (await server.chat(tools=[MATH])).json()["choices"][0]
        reason = choice["finish_reason"]
        assert "tool_calls" not in choice["message"]
    assert reason == "length"
    assert len(engine.requests) == 1


@pytest.mark.parametrize(
    "written", [TAGGED, '{"tool": "calculate_math", "arguments": {"expression": "1+1"}}']
)
@pytest.mark.parametrize("streaming", [False, True])
async def test_call_written_as_text_is_run_and_not_shown(
    server: Live, engine: ScriptedEngine, streaming: bool, written: str
) -> None:
    if streaming:
        engine.play(stream(*text(*written)), stream(*text("It is 2.")))
        content = text_of(await server.chat_events(tools=[MATH]))
    else:
        engine.play(whole(written), whole("It is 2."))
        content = (await server.chat(tools=[MATH])).json()["choices"][0]["message"]["content"]
    assert content == "It is 2."
    assert json.loads(tool_messages(engine, 1)[0]["content"]) == {"result": 2}


async def test_text_call_for_a_client_tool_becomes_a_call(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole('<tool_call>{"name": "my_tool", "arguments": {"x": 1}}</tool_call>'))
    choice = (await server.chat(tools=[MATH, MINE])).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"x": 1}


async def test_bare_json_is_an_answer_where_json_was_asked_for(server: Live, engine: ScriptedEngine) -> None:
    written = '{"tool": "calculate_math", "arguments": {"expression": "1+1"}}'
    engine.play(whole(written))
    answer = (await server.chat(tools=[MATH], response_format={"type": "json_object"})).json()
    assert answer["choices"][0]["message"]["content"] == written
    assert engine.requests[0].json["response_format"] == {"type": "json_object"}


async def test_nothing_is_run_under_tool_choice_none(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole(TAGGED))
    answer = (await server.chat(tools=[MATH], tool_choice="none")).json()
    assert answer["choices"][0]["message"]["content"] == TAGGED
    assert len(engine.requests) == 1


async def test_half_a_call_in_the_text_is_neither_lost_nor_run(server: Live, engine: ScriptedEngine) -> None:
    engine.play(stream(*text("See ", TAGGED[:30])))
    assert text_of(await server.chat_events(tools=[MATH])) == f"See {TAGGED[:30]}"


async def test_servers_schema_fills_in_what_the_client_left_out(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("ok"))
    own = {"type": "function", "function": {"name": "calculate_math", "description": "Mine"}}
    await server.chat(tools=[WEATHER, own])
    weather, math = (tool["function"] for tool in engine.requests[0].json["tools"])
    assert weather["parameters"]["properties"]["unit"]["enum"] == ["celsius", "fahrenheit"]
    assert weather["description"]
    assert math["description"] == "Mine"
    assert math["parameters"]["required"] == ["expression"]


async def test_client_may_run_registered_tools_itself(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole(calls=[call("calculate_math", SUM)]))
    answer = (await server.chat(tools=[MATH], headers={"X-Tool-Execution": "client"})).json()
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "calculate_math"
    assert engine.requests[0].json["tools"] == [MATH]
    refused = await server.chat(tools=[MATH], headers={"X-Tool-Execution": "both"})
    assert refused.status_code == 400
    assert "client or server" in refused.json()["error"]["message"]


async def test_configured_tools_are_attached_to_requests_that_bring_none(engine: ScriptedEngine) -> None:
    async with live(engine.url, ATTACH_TOOLS="calculate_math") as server:
        engine.play(whole(calls=[call("calculate_math", SUM)]), whole("2"))
        answer = (await server.chat("What is 1+1?")).json()
        engine.play(whole(calls=[call("my_tool", {})]))
        await server.chat(tools=[MINE])
    assert answer["choices"][0]["message"]["content"] == "2"
    assert engine.requests[0].json["tools"][0]["function"]["name"] == "calculate_math"
    assert [tool["function"]["name"] for tool in engine.requests[2].json["tools"]] == ["my_tool"]


async def test_several_choices_with_server_tools_are_refused(server: Live, engine: ScriptedEngine) -> None:
    refused = await server.chat(tools=[MATH], n=3)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "n"
    assert "calculate_math" in refused.json()["error"]["message"]
    engine.play(whole("ok"))
    assert (await server.chat(tools=[MINE], n=3)).status_code == 200


async def test_tool_events_are_told_on_request_only(server: Live, engine: ScriptedEngine) -> None:
    engine.play(stream(*call_deltas("calculate_math", SUM)), stream(*text("2")))
    events = await server.chat_events(tools=[MATH], tandem={"events": True})
    told = [event["tandem"] for event in events if isinstance(event, dict) and "tandem" in event]
    assert [(t["type"], t["name"], t["arguments"]) for t in told] == [
        ("tool_call.started", "calculate_math", SUM),
        ("tool_call.finished", "calculate_math", SUM),
    ]
    assert json.loads(told[1]["result"]) == {"result": 2}
    assert told[1]["outcome"] == "ok"
    assert told[1]["seconds"] >= 0
    assert all(e["choices"] == [] for e in events if isinstance(e, dict) and "tandem" in e)
    assert "tandem" not in engine.requests[0].json
    engine.play(whole(calls=[call("calculate_math", SUM)]), whole("2"))
    answer = (await server.chat(tools=[MATH], tandem={"events": True})).json()
    assert [event["type"] for event in answer["tandem"]["events"]] == [
        "tool_call.started",
        "tool_call.finished",
    ]


@pytest.mark.parametrize("field", [1, {"evnts": True}, {"events": "yes"}])
async def test_wrong_tandem_field_is_refused(server: Live, field: object) -> None:
    refused = await server.chat(tools=[MATH], tandem=field)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"].startswith("tandem")


async def test_reasoning_is_relayed_and_kept_in_the_history(server: Live, engine: ScriptedEngine) -> None:
    engine.play(
        stream({"reasoning": "I must "}, {"reasoning": "add."}, *call_deltas("calculate_math", SUM)),
        stream({"reasoning": "Done."}, *text("2")),
    )
    events = await server.chat_events(tools=[MATH])
    deltas = [e["choices"][0]["delta"] for e in events if isinstance(e, dict)]
    assert "".join(d.get("reasoning", "") for d in deltas) == "I must add.Done."
    assert engine.requests[1].json["messages"][1]["reasoning"] == "I must add."


async def test_unknown_parameters_reach_the_engine_in_every_round(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.play(whole(calls=[call("calculate_math", SUM)]), whole("2"))
    await server.chat(tools=[MATH], guided_regex="x", temperature=0.5, seed=7)
    for request in engine.requests:
        assert (request.json["guided_regex"], request.json["temperature"], request.json["seed"]) == (
            "x",
            0.5,
            7,
        )


async def test_round_that_the_client_saw_nothing_of_is_asked_again(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.play(
        stream(*call_deltas("calculate_math", SUM)),
        stream(*call_deltas("calculate_math", '{"expression": "2+2"}'), CUT),
        stream(*text("It is 2.")),
    )
    events = await server.chat_events(tools=[MATH])
    assert text_of(events) == "It is 2."
    assert events[-1] == "[DONE]"
    assert engine.requests[1].body == engine.requests[2].body


@pytest.mark.parametrize("broken", [(*text("It "), CUT), (*text("It "), NO_DONE)])
async def test_stream_that_breaks_off_ends_in_an_error(
    server: Live, engine: ScriptedEngine, broken: tuple[Any, ...]
) -> None:
    engine.play(stream(*call_deltas("calculate_math", SUM)), stream(*broken))
    events = await server.chat_events(tools=[MATH])
    last = events[-1]
    assert isinstance(last, dict)
    assert last["error"]["code"] == "engine_failed"
    assert text_of(events[:-1]) == "It "
    assert "[DONE]" not in events


async def test_engines_error_event_ends_the_answer_after_what_came_before(
    server: Live, engine: ScriptedEngine
) -> None:
    error = b'data: {"error": {"message": "boom", "type": "x", "param": null, "code": 500}}\n\n'
    engine.play(raw_stream(chunk({"role": "assistant", "content": "Half"}) + error + b"data: [DONE]\n\n"))
    events = await server.chat_events(tools=[MATH])
    assert text_of(events) == "Half"
    assert isinstance(events[-1], dict)
    assert "boom" in events[-1]["error"]["message"]


async def test_engines_refusal_keeps_its_status_and_words(server: Live, engine: ScriptedEngine) -> None:
    error = {"message": "too long", "type": "BadRequestError", "param": "input_tokens", "code": 400}
    engine.play(body({"error": error}, 400))
    refused = await server.chat(stream=True, tools=[MATH])
    assert (refused.status_code, refused.json()) == (400, {"error": error})
    engine.play(whole(calls=[call("calculate_math", SUM)]), body({"error": error}, 400))
    with pytest.raises(openai.BadRequestError, match="too long"):
        await server.openai.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], tools=[MATH]
        )


async def test_nonsense_from_the_engine_is_an_error_at_once(server: Live, engine: ScriptedEngine) -> None:
    for nonsense in (body(b"{oops"), body(b"[]"), body({"error": {"message": "boom"}}, 500)):
        engine.requests.clear()
        engine.play(nonsense)
        answer = await server.chat(tools=[MATH])
        assert answer.status_code == 502
        assert answer.json()["error"]["type"] == "engine_error"
        assert len(engine.requests) == 1


async def test_request_that_breaks_its_engine_is_sent_three_times(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.otherwise = cut(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{")
    assert (await server.chat(tools=[MATH])).status_code == 502
    assert len(engine.requests) == 3


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(sizes=st.lists(st.integers(1, 90), max_size=40))
async def test_any_split_of_the_engines_bytes_gives_the_same_answer(
    server: Live, engine: ScriptedEngine, sizes: list[int]
) -> None:
    first = b"".join(chunk(delta) for delta in call_deltas("calculate_math", SUM)) + chunk({}, "tool_calls")
    second = b"".join(chunk(d) for d in text("Né", "e <tool", "_call> ", "2")) + chunk({}, "stop")
    engine.play(
        raw_stream(first + b"data: [DONE]\n\n", sizes), raw_stream(second + b"data: [DONE]\n\n", sizes)
    )
    response = await server.chat(stream=True, tools=[MATH])
    events = events_of(response.text)
    assert text_of(events) == "Née <tool_call> 2"
    assert events[-1] == "[DONE]"
