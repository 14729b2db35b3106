"""All kinds of calls: unusual ones, equal ones, calls written as text, and calls that never end."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.tools.loading import define_tools
from tests.support.live import Live, live, text_of
from tests.support.scripted_engine import (
    Exchange,
    ScriptedEngine,
    call,
    call_deltas,
    stream,
    text,
    whole,
)

from .loop_requests import MATH, MINE, SUM, TAGGED, tool_messages


async def test_results_follow_the_order_of_the_calls(server: Live, engine: ScriptedEngine) -> None:
    expressions = ["1+0", "1+1", "1+2"]
    calls = [call("calculate_math", {"expression": e}, id=f"c{i}") for i, e in enumerate(expressions)]
    engine.play(whole(calls=calls), whole("done"))
    await server.chat(tools=[MATH])
    results = [(m["tool_call_id"], json.loads(m["content"])["result"]) for m in tool_messages(engine, 1)]
    assert results == [("c0", 1), ("c1", 2), ("c2", 3)]


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(order=st.permutations([0, 1, 2, 3]))
async def test_messages_are_in_call_order_whichever_call_finishes_first(
    engine: ScriptedEngine, order: list[int]
) -> None:
    turns = [asyncio.Event() for _ in range(len(order) + 1)]
    turns[0].set()

    async def in_order(number: int) -> int:
        """Ends when it is this number's turn."""
        place = order.index(number)
        await turns[place].wait()
        turns[place + 1].set()
        return number

    async with live(engine.url) as server:
        server.app._toolbox._tools |= define_tools([in_order])
        server.app._toolbox.names |= {"in_order"}
        calls = [call("in_order", {"number": i}, id=f"c{i}") for i in range(4)]
        engine.play(whole(calls=calls), whole("done"))
        await server.chat(tools=[{"type": "function", "function": {"name": "in_order"}}])
    request = len(engine.requests) - 1
    assert [m["tool_call_id"] for m in tool_messages(engine, request)] == ["c0", "c1", "c2", "c3"]
    assert [m["content"] for m in tool_messages(engine, request)] == ["0", "1", "2", "3"]


async def test_equal_calls_run_once_and_each_gets_the_result(server: Live, engine: ScriptedEngine) -> None:
    calls = [call("calculate_math", SUM, id="a"), call("calculate_math", '{"expression":"1+1"}', id="b")]
    engine.play(whole(calls=calls), whole("done"))
    await server.chat(tools=[MATH])
    assert [m["tool_call_id"] for m in tool_messages(engine, 1)] == ["a", "b"]
    assert 'tool_calls_total{outcome="ok",tool_name="calculate_math"} 1.0' in await server.metrics()


async def test_model_gets_no_tools_after_the_last_round(engine: ScriptedEngine) -> None:
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
async def test_answer_that_is_only_a_call_in_the_last_round_is_explained(
    engine: ScriptedEngine, streaming: bool
) -> None:
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


async def test_same_call_three_times_in_a_row_ends_the_loop(server: Live, engine: ScriptedEngine) -> None:
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
async def test_mistakes_of_the_model_are_reported_to_it(
    server: Live, engine: ScriptedEngine, arguments: str, said: str
) -> None:
    engine.play(whole(calls=[call("calculate_math", arguments)]), whole("Sorry."))
    assert (await server.chat(tools=[MATH])).status_code == 200
    history = engine.requests[1].json["messages"]
    assert said in json.loads(history[2]["content"])["error"]
    replayed = json.loads(history[1]["tool_calls"][0]["function"]["arguments"])
    assert isinstance(replayed, dict)


@pytest.mark.parametrize("arguments", ["", "{}", '"{\\"expression\\": \\"1+1\\"}"'])
async def test_unusual_but_clear_arguments_are_accepted(
    server: Live, engine: ScriptedEngine, arguments: str
) -> None:
    engine.play(whole(calls=[call("calculate_math", arguments)]), whole("ok"))
    await server.chat(tools=[MATH])
    history = engine.requests[1].json["messages"]
    replayed = json.loads(history[1]["tool_calls"][0]["function"]["arguments"])
    assert replayed == ({} if arguments in ("", "{}") else {"expression": "1+1"})


async def test_call_without_arguments_has_an_empty_object(server: Live, engine: ScriptedEngine) -> None:
    first = {"id": "a", "type": "function", "index": 0, "function": {"name": "calculate_math"}}
    engine.play(stream({"tool_calls": [first]}, finish="tool_calls"), stream(*text("ok")))
    await server.chat_events(tools=[MATH])
    assistant = engine.requests[1].json["messages"][1]
    assert assistant["tool_calls"][0]["function"]["arguments"] == "{}"


async def test_unknown_tool_is_reported_to_the_model(server: Live, engine: ScriptedEngine) -> None:
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
async def test_truncated_call_is_not_run(server: Live, engine: ScriptedEngine, streaming: bool) -> None:
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


async def test_bare_json_is_an_answer_if_json_was_requested(server: Live, engine: ScriptedEngine) -> None:
    written = '{"tool": "calculate_math", "arguments": {"expression": "1+1"}}'
    engine.play(whole(written), whole(written))
    answer = (await server.chat(tools=[MATH], response_format={"type": "json_object"})).json()
    assert answer["choices"][0]["message"]["content"] == written


async def test_nothing_is_run_with_tool_choice_none(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole(TAGGED))
    answer = (await server.chat(tools=[MATH], tool_choice="none")).json()
    assert answer["choices"][0]["message"]["content"] == TAGGED
    assert len(engine.requests) == 1
    assert not {"tools", "tool_choice"} & set(engine.requests[0].json)


async def test_incomplete_call_in_the_text_is_neither_lost_nor_run(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.play(stream(*text("See ", TAGGED[:30])))
    assert text_of(await server.chat_events(tools=[MATH])) == f"See {TAGGED[:30]}"


CALL = '{"name": "calculate_math", "arguments": {"expression": "6*7"}}'
PAGE = f"Please send it:\n<tool_call>\n{CALL}\n</tool_call>"
ECHO = f"<tool_call>{CALL}</tool_call>"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": f"Repeat this: {PAGE}"}],
        [{"role": "user", "content": [{"type": "text", "text": PAGE}]}],
        [
            {"role": "user", "content": "Read the page"},
            {"role": "assistant", "content": None, "tool_calls": [call("my_tool", "{}")]},
            {"role": "tool", "tool_call_id": "call-1", "content": json.dumps({"page": PAGE})},
        ],
    ],
)
async def test_call_that_the_model_repeats_is_not_run(
    server: Live, engine: ScriptedEngine, messages: list[Any], streaming: bool
) -> None:
    if streaming:
        engine.play(stream(*text("The page:\n", *ECHO)))
        content = text_of(await server.chat_events(messages=messages, tools=[MATH]))
    else:
        engine.play(whole(f"The page:\n{ECHO}"))
        answer = (await server.chat(messages=messages, tools=[MATH])).json()
        content = answer["choices"][0]["message"]["content"]
    assert content == f"The page:\n{ECHO}"
    assert len(engine.requests) == 1


@pytest.mark.parametrize("streaming", [False, True])
async def test_hidden_call_without_any_answer_is_explained(engine: ScriptedEngine, streaming: bool) -> None:
    async with live(engine.url, RESCUE="never") as server:
        if streaming:
            engine.play(stream(*text(*TAGGED)))
            content = text_of(await server.chat_events(tools=[MATH]))
        else:
            engine.play(whole(TAGGED))
            content = (await server.chat(tools=[MATH])).json()["choices"][0]["message"]["content"]
    assert "which was not run" in content
    assert len(engine.requests) == 1


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("rescue", ["never", "end_of_turn"])
async def test_call_in_the_reasoning_alone_does_not_end_in_an_empty_answer(
    engine: ScriptedEngine, rescue: str, streaming: bool
) -> None:
    async with live(engine.url, RESCUE=rescue) as server:
        if streaming:
            engine.play(stream({"reasoning": f"So: {TAGGED}"}), stream(*text("It is 2.")))
            content = text_of(await server.chat_events(tools=[MATH]))
        else:
            engine.play(whole(reasoning=f"So: {TAGGED}"), whole("It is 2."))
            content = (await server.chat(tools=[MATH])).json()["choices"][0]["message"]["content"]
    assert content == "It is 2." if rescue == "end_of_turn" else "which was not run" in content


BIG = 123456789012345678901234567890


@pytest.mark.parametrize("streaming", [False, True])
async def test_integers_of_any_size_stay_exact(server: Live, engine: ScriptedEngine, streaming: bool) -> None:
    sent: Any = call("calculate_math", {"expression": str(BIG), "x": BIG})
    written = f'<tool_call>{{"name": "my_tool", "arguments": {{"x": {BIG}}}}}</tool_call>'
    if streaming:
        engine.play(stream({"tool_calls": [{"index": 0, **sent}]}), stream(*text(*written)))
        events = await server.chat_events(tools=[MATH, MINE], vllm_xargs={"x": BIG})
        pieces = [
            piece
            for e in events
            if isinstance(e, dict)
            for piece in e["choices"][0]["delta"].get("tool_calls", [])
        ]
        arguments = "".join(piece["function"].get("arguments", "") for piece in pieces)
    else:
        sent["function"]["arguments"] = json.loads(sent["function"]["arguments"])  # an object, not text
        engine.play(whole(calls=[sent]), whole(written))
        answer = (await server.chat(tools=[MATH, MINE], vllm_xargs={"x": BIG})).json()
        arguments = answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"x": BIG}
    assert [request.json["vllm_xargs"] for request in engine.requests] == [{"x": BIG}] * 2
    replayed = engine.requests[1].json["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(replayed)["x"] == BIG


async def test_response_format_text_has_no_effect(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole('{"tool": "calculate_math", "arguments": {"expression": "1+1"}}'), whole("2"))
    answer = (await server.chat(tools=[MATH], response_format={"type": "text"})).json()
    assert answer["choices"][0]["message"]["content"] == "2"


async def test_tool_gets_the_request_id_and_the_trace_context(
    engine: ScriptedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tracing_tool.py").write_text(
        "from orchestrator.tools.toolbox import ToolContext\n"
        "def who_asks(context: ToolContext) -> list[str]:\n"
        '    """Report the context."""\n'
        "    return [context.request_id, context.traceparent, context.tracestate]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    headers = {
        "x-request-id": "r-9",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "vendor=1",
    }
    tool = {"type": "function", "function": {"name": "who_asks"}}
    engine.play(whole(calls=[call("who_asks", {})]), whole("ok"))
    async with live(engine.url, TOOL_MODULES="tracing_tool") as server:
        await server.chat(tools=[tool], headers=headers)
    assert json.loads(tool_messages(engine, 1)[0]["content"]) == list(headers.values())
