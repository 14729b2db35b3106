"""A format for the answer beside tools of the server: withheld while tools are offered, then demanded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.services.orchestrator.chat.loop_requests import MATH, MINE, SUM
from tests.support.live import Json, Live, live, text_of
from tests.support.scripted_engine import ScriptedEngine, call, call_deltas, stream, text, whole

JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
FORMATS = [
    {"response_format": JSON_SCHEMA},
    {"response_format": {"type": "json_object"}},
    {"structured_outputs": {"choice": ["yes", "no"]}},
]
ANSWER = '{"answer": "<tool_call>{\\"name\\": \\"calculate_math\\"}</tool_call>"}'


async def ask(server: Live, streaming: bool, *tools: Any, **fields: Any) -> tuple[str, str, list[Json]]:
    """Returns the text, the finish reason and the calls that the client gets."""
    if not streaming:
        choice = (await server.chat(tools=list(tools), **fields)).json()["choices"][0]
        message = choice["message"]
        return message["content"] or "", choice["finish_reason"], message.get("tool_calls") or []
    events = await server.chat_events(tools=list(tools), **fields)
    choices = [event["choices"][0] for event in events if isinstance(event, dict) and event["choices"]]
    calls = [piece for choice in choices for piece in choice["delta"].get("tool_calls") or []]
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    assert len(reasons) == 1
    return text_of(events), reasons[0], calls


def turn(streaming: bool, content: str, *calls: tuple[str, str], **options: Any) -> Any:
    if streaming:
        deltas = [d for n, (name, its) in enumerate(calls) for d in call_deltas(name, its, n, f"c{n}")]
        return stream(*text(*content), *deltas, **options)
    return whole(
        content, calls=[call(name, its, f"c{n}") for n, (name, its) in enumerate(calls)] or None, **options
    )


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("wanted", FORMATS, ids=json.dumps)
async def test_format_is_demanded_once_the_model_has_no_more_calls(
    server: Live, engine: ScriptedEngine, streaming: bool, wanted: Json
) -> None:
    engine.play(
        turn(streaming, "Let me see.", ("calculate_math", SUM)),
        turn(streaming, "It is 2."),
        turn(streaming, ANSWER),
    )
    assert await ask(server, streaming, MATH, **wanted) == (ANSWER, "stop", [])
    first, second, last = (request.json for request in engine.requests)
    name = next(iter(wanted))
    assert name not in first
    assert name not in second
    assert first["tools"]
    assert second["tools"]
    assert last[name] == wanted[name]
    assert not {"tools", "tool_choice"} & set(last)
    assert [m["role"] for m in last["messages"]] == ["user", "assistant", "tool"]  # without the draft


@pytest.mark.parametrize("streaming", [False, True])
async def test_draft_that_is_cut_is_replaced(server: Live, engine: ScriptedEngine, streaming: bool) -> None:
    engine.play(turn(streaming, "It", finish="length"), turn(streaming, "{}"))
    assert await ask(server, streaming, MATH, response_format=JSON_SCHEMA) == ("{}", "stop", [])


@pytest.mark.parametrize("streaming", [False, True])
async def test_calls_for_the_client_need_no_format(
    server: Live, engine: ScriptedEngine, streaming: bool
) -> None:
    engine.play(turn(streaming, "Let me see.", ("my_tool", "{}")))
    content, reason, calls = await ask(server, streaming, MATH, MINE, response_format=JSON_SCHEMA)
    assert (content, reason) == ("", "tool_calls")
    assert [c["function"]["name"] for c in calls] == ["my_tool"]
    assert len(engine.requests) == 1


async def test_format_is_demanded_in_the_last_round(engine: ScriptedEngine) -> None:
    engine.play(whole("Hm", calls=[call("calculate_math", SUM)]), whole(ANSWER))
    async with live(engine.url, MAX_TOOL_ROUNDS="1") as server:
        assert (await ask(server, False, MATH, response_format=JSON_SCHEMA))[0] == ANSWER
    assert engine.requests[1].json["response_format"] == JSON_SCHEMA


async def test_text_format_changes_nothing(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("It is 2."))
    assert (await ask(server, False, MATH, response_format={"type": "text"}))[0] == "It is 2."


async def test_format_without_server_tools_is_relayed(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("{}"))
    assert (await ask(server, False, MINE, response_format=JSON_SCHEMA))[0] == "{}"
    assert engine.requests[0].json["response_format"] == JSON_SCHEMA


@pytest.mark.parametrize("streaming", [False, True])
async def test_usage_is_the_sum_over_the_draft_and_the_answer(
    server: Live, engine: ScriptedEngine, streaming: bool
) -> None:
    engine.play(turn(streaming, "It is 2.", usage=(10, 5)), turn(streaming, "{}", usage=(20, 2)))
    options: Json = {"stream_options": {"include_usage": True}} if streaming else {}
    request: Json = {"tools": [MATH], "response_format": JSON_SCHEMA, **options}
    if streaming:
        usage = [e["usage"] for e in await server.chat_events(**request) if isinstance(e, dict)][-1]
    else:
        usage = (await server.chat(**request)).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (30, 7)
