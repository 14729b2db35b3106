"""Turns that call tools of both sides: the server's results survive in a history that the client keeps."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.chat.carried import MARK, carries, carry, plain_id, restore
from orchestrator.errors import InvalidRequest
from tests.services.orchestrator.chat.loop_requests import MATH, MINE, SUM, WEATHER
from tests.support.live import Json, Live, live, text_of
from tests.support.scripted_engine import ScriptedEngine, call, call_deltas, stream, text, whole

QUESTION = {"role": "user", "content": "What is 1+1, and what does my tool say?"}


def echoed(*ids: str, **fields: Any) -> list[Json]:
    """Returns a history as a client sends it after a turn with calls of these ids."""
    calls = [call("my_tool", {}, id) for id in ids]
    results = [{"role": "tool", "tool_call_id": id, "content": "mine"} for id in ids]
    return [QUESTION, {"role": "assistant", "content": None, "tool_calls": calls, **fields}, *results]


def test_calls_of_the_server_come_back_before_the_message_that_carries_them() -> None:
    id = carry(
        "c7", [[("calculate_math", SUM, "2"), ("calculate_math", "{}", "3")], [("clock", "{}", "noon")]]
    )
    restored = restore(echoed(id, "other", content="Let me see."))
    assert restored is not None
    question, first, two, three, second, noon, own, *results = restored
    assert question == QUESTION
    assert first == {
        "role": "assistant",
        "content": None,
        "tool_calls": [call("calculate_math", SUM, "c7-1-0"), call("calculate_math", "{}", "c7-1-1")],
    }
    assert [(m["tool_call_id"], m["content"]) for m in (two, three)] == [("c7-1-0", "2"), ("c7-1-1", "3")]
    assert second["tool_calls"] == [call("clock", "{}", "c7-2-0")]
    assert noon == {"role": "tool", "tool_call_id": "c7-2-0", "content": "noon"}
    assert [c["id"] for c in own["tool_calls"]] == ["c7", "other"]
    assert own["content"] == "Let me see."
    assert [m["tool_call_id"] for m in results] == ["c7", "other"]


def test_mixed_turn_is_restored_as_the_model_made_it() -> None:
    rounds = [[("clock", "{}", "noon")], [("calculate_math", SUM, "2"), ("calculate_math", "{}", "3")]]
    question, turn, *results = echoed(carry("a", rounds, [0, 2]), "b")
    later = {"role": "user", "content": "And now?"}
    restored = restore([question, turn, *reversed(results), later])
    assert restored is not None
    assert [m["role"] for m in restored] == ["user", "assistant", "tool", "assistant", *["tool"] * 4, "user"]
    assert [c["id"] for c in restored[3]["tool_calls"]] == ["a-2-0", "a", "a-2-1", "b"]
    assert [m["tool_call_id"] for m in restored[4:8]] == ["a-2-0", "a", "a-2-1", "b"]
    assert [m["content"] for m in restored[4:8]] == ["2", "mine", "3", "mine"]


def test_results_of_a_mixed_turn_come_back_even_if_the_client_has_none_yet() -> None:
    restored = restore(echoed(carry("a", [[("clock", "{}", "noon")]], [7]))[:2])
    assert restored is not None
    assert [c["id"] for c in restored[1]["tool_calls"]] == ["a", "a-1-0"]
    assert restored[2]["content"] == "noon"


def test_id_has_only_characters_that_every_api_accepts() -> None:
    id = carry("call_1", [[("t", "{}", "\u00ff\u2603 ~?>" * 9)]])
    assert set(id) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert carry("call_1", []) == "call_1"
    assert carries(id)
    assert not carries("call_1")
    assert not carries(id[:-4])


def test_history_without_such_ids_is_left_alone() -> None:
    assert restore([QUESTION]) is None
    assert restore(echoed("a", "b")) is None
    assert (
        restore([{"role": "assistant", "tool_calls": "odd"}, {"role": "assistant", "tool_calls": [1]}])
        is None
    )


ROUNDS = [[("t", "{}", "result")]]
BROKEN = {
    "cut": carry("a", ROUNDS)[:-7],
    "not base64": f"a{MARK}%%%",
    "not ASCII": f"a{MARK}\u00e9",
    "not ours": f"a{MARK}W10",
    "nested": f"a{MARK}" + "W1tb" * 5000,
    "far too long": f"a{MARK}" + "W1tb" * 200_000,
}


@pytest.mark.parametrize("id", BROKEN.values(), ids=BROKEN)
def test_id_that_cannot_be_read_stays_as_it_is(id: str) -> None:
    assert restore(echoed(id)) is None


VALUES = st.recursive(
    st.none() | st.text(max_size=3) | st.integers(-1, 9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=1), inner, max_size=2),
)


@given(VALUES, VALUES)
def test_forged_content_never_raises(rounds: Any, positions: Any) -> None:
    id = carry("a", rounds, positions) if isinstance(rounds, list) else f"a{MARK}{rounds}"
    restored = restore([*echoed(id), {"role": "assistant", "tool_calls": [{"id": ["odd"]}, 3, {"id": 4}]}])
    for message in restored or ():
        assert message["role"] in ("user", "assistant", "tool")
        orjson.dumps(message)


def test_number_of_carried_calls_in_a_history_is_limited() -> None:
    id = carry("a", [[("t", "{}", "")] * 700])
    assert restore(echoed(id, id))
    with pytest.raises(InvalidRequest, match="shorten the history"):
        restore(echoed(id, id, id))


@pytest.mark.parametrize("calls", [1, 40, 1000])
def test_large_results_are_truncated_to_equal_shares(calls: int) -> None:
    rounds = [[("t", json.dumps({"x": "y" * 100_000}), "r" * 100_000)] for _ in range(calls)]
    id = carry("a", rounds)
    assert len(id) < 400_000
    restored = restore(echoed(id))
    assert restored is not None
    result = restored[2]["content"]
    assert result.startswith("r" * (65_536 // 2 // calls))
    assert "[cut here: " in result
    assert restored[1]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_id_of_the_engine_cannot_pose_as_a_carrying_one() -> None:
    forged = carry("a", ROUNDS)
    assert MARK not in plain_id(forged)
    assert MARK not in plain_id("x-tandem1-tandem1-y")
    assert plain_id("call_1-2") == "call_1-2"


async def ask(server: Live, streaming: bool, messages: list[Json], **fields: Any) -> Json:
    """Returns the message that a client assembles."""
    request = {"model": "m", "messages": messages, "tools": [MATH, WEATHER, MINE], **fields}
    if not streaming:
        answer = await server.http.post("/v1/chat/completions", json=request)
        message: Json = answer.json()["choices"][0]["message"]
        return message
    async with server.openai.chat.completions.stream(**request) as events:
        async for _ in events:
            pass
        final = await events.get_final_completion()
    return final.choices[0].message.model_dump(exclude_none=True, exclude={"parsed"})


def mixed(streaming: bool) -> Any:
    calls = [("my_tool", '{"x": 1}', "a"), ("calculate_math", SUM, "b"), ("my_tool", '{"x": 2}', "c")]
    if not streaming:
        return whole("Let me see.", calls=[call(*one) for one in calls])
    deltas = [
        delta for index, (name, its, id) in enumerate(calls) for delta in call_deltas(name, its, index, id)
    ]
    return stream(*text("Let me ", "see."), *deltas, finish="tool_calls")


@pytest.mark.parametrize("streaming", [False, True])
async def test_results_of_a_mixed_turn_survive_on_another_server(
    engine: ScriptedEngine, streaming: bool
) -> None:
    engine.play(mixed(streaming), whole("Both."))
    async with live(engine.url) as first:
        answer = await ask(first, streaming, [QUESTION])
    assert len(engine.requests) == 1  # the model need not ask again
    assert answer["content"] == "Let me see."
    assert [c["function"]["arguments"] for c in answer["tool_calls"]] == ['{"x": 1}', '{"x": 2}']
    assert [c["type"] for c in answer["tool_calls"]] == ["function", "function"]
    own = [{"role": "tool", "tool_call_id": c["id"], "content": "ok"} for c in answer["tool_calls"]]
    async with live(engine.url) as other:
        await ask(other, False, [QUESTION, answer, *own])
    _, turn, *results = engine.requests[1].json["messages"]
    assert turn["content"] == "Let me see."
    assert [c["function"]["name"] for c in turn["tool_calls"]] == ["my_tool", "calculate_math", "my_tool"]
    assert json.loads(turn["tool_calls"][1]["function"]["arguments"]) == json.loads(SUM)
    assert [c["id"] for c in turn["tool_calls"]] == [m["tool_call_id"] for m in results]
    assert [m["content"] for m in results] == ["ok", '{"result":2}', "ok"]
    assert MARK not in engine.requests[1].body.decode()


@pytest.mark.parametrize("streaming", [False, True])
async def test_results_of_earlier_rounds_survive_as_well(
    server: Live, engine: ScriptedEngine, streaming: bool
) -> None:
    if streaming:
        engine.play(
            stream(*call_deltas("calculate_math", SUM, 0, "a")), stream(*call_deltas("my_tool", "{}", 0, "b"))
        )
    else:
        engine.play(
            whole(calls=[call("calculate_math", SUM, "a")]), whole(calls=[call("my_tool", "{}", "b")])
        )
    engine.play(whole("Both."))
    answer = await ask(server, streaming, [QUESTION])
    own = {"role": "tool", "tool_call_id": answer["tool_calls"][0]["id"], "content": "ok"}
    await ask(server, False, [QUESTION, answer, own])
    roles = [message["role"] for message in engine.requests[2].json["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "tool"]


async def test_results_survive_a_request_without_tools_of_the_server(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.play(mixed(False), whole("Both."), whole("Both."))
    answer = await ask(server, False, [QUESTION])
    own = [{"role": "tool", "tool_call_id": c["id"], "content": "ok"} for c in answer["tool_calls"]]
    await server.chat(messages=[QUESTION, answer, *own], seed=2**80)
    await server.chat(messages=[QUESTION, answer, *own], tools=[MATH], headers={"X-Tool-Execution": "client"})
    for request in engine.requests[1:]:
        assert [m["role"] for m in request.json["messages"]][:3] == ["user", "assistant", "tool"]
    assert engine.requests[1].json["seed"] == 2**80


async def test_control_tokens_in_carried_results_are_neutralized(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.play(whole("ok"))
    id = carry("a", [[("calculate_math", SUM, "<|im_end|>")]])
    await ask(server, False, echoed(id))
    assert "<|im_end|>" not in engine.requests[0].json["messages"][2]["content"]


async def test_one_call_at_a_time_is_streamed_as_it_arrives(server: Live, engine: ScriptedEngine) -> None:
    engine.play(
        stream(*call_deltas("calculate_math", SUM, 0, "a")),
        stream(*call_deltas("my_tool", '{"x": 12345678}', 0, "b")),
    )
    events = await server.chat_events(tools=[MATH, MINE], parallel_tool_calls=False)
    pieces = [
        piece
        for event in events
        if isinstance(event, dict) and event["choices"]
        for piece in event["choices"][0]["delta"].get("tool_calls", [])
    ]
    assert len(pieces) > 3
    assert pieces[0]["id"].startswith(f"b{MARK}")
    assert text_of(events) == ""


REQUIRED = {"tool_choice": "required"}


async def test_required_choice_holds_until_a_call_reaches_the_client(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.play(whole(calls=[call("calculate_math", SUM)]), whole(calls=[call("my_tool", {})]))
    answer = await ask(server, False, [QUESTION], **REQUIRED)
    assert [c["function"]["name"] for c in answer["tool_calls"]] == ["my_tool"]
    assert [r.json["tool_choice"] for r in engine.requests] == ["required", "required"]


async def test_last_round_of_a_required_choice_offers_only_the_clients_tools(engine: ScriptedEngine) -> None:
    engine.play(whole(calls=[call("calculate_math", SUM)]), whole(calls=[call("my_tool", {})]))
    async with live(engine.url, MAX_TOOL_ROUNDS="1") as server:
        answer = await ask(server, False, [QUESTION], **REQUIRED, parallel_tool_calls=True)
    assert [c["function"]["name"] for c in answer["tool_calls"]] == ["my_tool"]
    last = engine.requests[1].json
    assert [tool["function"]["name"] for tool in last["tools"]] == ["my_tool"]
    assert (last["tool_choice"], last["parallel_tool_calls"]) == ("required", True)
