"""The rules of the loop, tested over HTTP with a scripted engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.live import Live, live, text_of
from tests.support.scripted_engine import (
    ScriptedEngine,
    call,
    call_deltas,
    stream,
    text,
    whole,
)

from .loop_requests import MATH, MINE, SUM, WEATHER


async def test_call_is_run_and_its_result_is_sent_to_the_engine(server: Live, engine: ScriptedEngine) -> None:
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


async def test_all_rounds_form_one_streamed_answer(server: Live, engine: ScriptedEngine) -> None:
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


async def test_usage_is_summed_and_sent_only_on_request(server: Live, engine: ScriptedEngine) -> None:
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


async def test_calls_determine_the_next_step(server: Live, engine: ScriptedEngine) -> None:
    # A turn for a named function has a call and ends with `stop`; `tool_calls` may come with an empty list.
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
async def test_forced_choice_applies_only_to_the_first_round(
    server: Live, engine: ScriptedEngine, choice: object
) -> None:
    engine.play(whole("", calls=[call("calculate_math", SUM)], finish="stop"), whole("2"))
    await server.chat(tools=[MATH], tool_choice=choice, parallel_tool_calls=False)
    assert engine.requests[0].json["tool_choice"] == choice
    assert engine.requests[1].json.get("tool_choice", "auto") == "auto"
    assert engine.requests[1].json["tools"]
    assert all(request.json["parallel_tool_calls"] is False for request in engine.requests)


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


async def test_schema_of_the_server_completes_the_tool_of_the_client(
    server: Live, engine: ScriptedEngine
) -> None:
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
    assert "client, server, or a side" in refused.json()["error"]["message"]


async def test_configured_tools_are_attached_to_requests_without_tools(engine: ScriptedEngine) -> None:
    async with live(engine.url, ATTACH_TOOLS="calculate_math") as server:
        engine.play(whole(calls=[call("calculate_math", SUM)]), whole("2"))
        answer = (await server.chat("What is 1+1?")).json()
        engine.play(whole(calls=[call("my_tool", {})]))
        await server.chat(tools=[MINE])
    assert answer["choices"][0]["message"]["content"] == "2"
    assert engine.requests[0].json["tools"][0]["function"]["name"] == "calculate_math"
    assert [tool["function"]["name"] for tool in engine.requests[2].json["tools"]] == ["my_tool"]


async def test_several_choices_with_server_tools_are_rejected(server: Live, engine: ScriptedEngine) -> None:
    refused = await server.chat(tools=[MATH], n=3)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "n"
    assert "calculate_math" in refused.json()["error"]["message"]
    engine.play(whole("ok"))
    assert (await server.chat(tools=[MINE], n=3)).status_code == 200


async def test_tool_events_are_sent_only_on_request(server: Live, engine: ScriptedEngine) -> None:
    engine.play(stream(*call_deltas("calculate_math", SUM)), stream(*text("2")))
    events = await server.chat_events(tools=[MATH], tandem={"events": True})
    sent = [event["tandem"] for event in events if isinstance(event, dict) and "tandem" in event]
    assert [(t["type"], t["name"], t["arguments"]) for t in sent] == [
        ("tool_call.started", "calculate_math", SUM),
        ("tool_call.finished", "calculate_math", SUM),
    ]
    assert json.loads(sent[1]["result"]) == {"result": 2}
    assert sent[1]["outcome"] == "ok"
    assert sent[1]["seconds"] >= 0
    assert all(e["choices"] == [] for e in events if isinstance(e, dict) and "tandem" in e)
    assert "tandem" not in engine.requests[0].json
    engine.play(whole(calls=[call("calculate_math", SUM)]), whole("2"))
    answer = (await server.chat(tools=[MATH], tandem={"events": True})).json()
    assert [event["type"] for event in answer["tandem"]["events"]] == [
        "tool_call.started",
        "tool_call.finished",
    ]


@pytest.mark.parametrize("field", [1, {"evnts": True}, {"events": "yes"}])
async def test_invalid_tandem_field_is_rejected(server: Live, field: object) -> None:
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
    assert "".join(d.get("reasoning", "") for d in deltas) == "I must add.\n\nDone."
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
