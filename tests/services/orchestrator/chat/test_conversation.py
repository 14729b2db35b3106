"""The state of one request over its rounds."""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.chat.conversation import Chunk, Conversation
from orchestrator.chat.markup import rescue_for
from orchestrator.chat.tool_plan import ToolPlan
from orchestrator.chat.turn import Turn
from orchestrator.control_tokens import ControlTokens
from orchestrator.protocol import JsonObject, ToolCall
from orchestrator.tools.toolbox import ToolResult

from .loop_requests import MATH

QUESTION = {"role": "user", "content": "x"}


def conversation(**fields: Any) -> Conversation:
    request = {"messages": [QUESTION], "tools": [MATH], **fields}
    talk = Conversation(
        ToolPlan(request, frozenset({"calculate_math"})), rescue_for("hermes", None), ControlTokens("hermes")
    )
    talk.rounds = 1
    talk.begin_turn()
    return talk


def chunk(usage: JsonObject | None = None, **delta: Any) -> JsonObject:
    return {"id": "c", "choices": [{"index": 0, "delta": delta}], "usage": usage}


def body(talk: Conversation) -> JsonObject:
    value: JsonObject = orjson.loads(talk.body())
    return value


def remember(talk: Conversation, arguments: str = "{}", parsed: JsonObject | None = None) -> None:
    call = ToolCall("call-1", "calculate_math", arguments)
    turn = Turn(text="", reasoning="", calls=[call], client_calls=[], finish_reason="tool_calls")
    replayed = "{}" if parsed is None else arguments
    result = ToolResult(content="2", outcome="ok", arguments=replayed, parsed=parsed, seconds=0.0)
    talk.remember(turn, [(call, result)])


def texts(events: list[Any]) -> list[str]:
    return [event.delta["content"] for event in events if isinstance(event, Chunk)]


def test_forced_call_applies_only_to_the_first_round() -> None:
    talk = conversation(tool_choice="required")
    assert body(talk)["tool_choice"] == "required"
    talk.rounds = 2
    assert "tool_choice" not in body(talk)
    assert body(talk)["tools"] == [MATH]


def test_last_round_offers_no_tools() -> None:
    talk = conversation(tool_choice="auto", parallel_tool_calls=True, temperature=0.5)
    talk.last_ask = "The limit was reached"
    asked = body(talk)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(asked)
    assert asked["temperature"] == 0.5


def test_usage_is_requested_only_for_streams() -> None:
    asked = body(conversation(stream=True, stream_options={"other": 1}))
    assert asked["stream_options"] == {"other": 1, "include_usage": True}
    assert "stream_options" not in body(conversation())


def test_empty_list_of_calls_is_not_sent_back_to_the_engine() -> None:
    echoed = {"role": "assistant", "content": "hm", "tool_calls": []}
    assert body(conversation(messages=[QUESTION, echoed]))["messages"][1] == {
        "role": "assistant",
        "content": "hm",
    }
    assert echoed["tool_calls"] == []


def test_history_has_the_turn_and_then_its_results() -> None:
    talk = conversation()
    remember(talk, '{"expression":"1+1"}', {"expression": "1+1"})
    assert [message["role"] for message in body(talk)["messages"]] == ["user", "assistant", "tool"]
    assert body(talk)["messages"][2] == {"role": "tool", "tool_call_id": "call-1", "content": "2"}


def test_malformed_arguments_are_replayed_as_an_empty_object() -> None:
    talk = conversation()
    remember(talk, "{oops")
    assert body(talk)["messages"][1]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_same_call_in_three_rounds_in_a_row_is_detected() -> None:
    talk = conversation()
    for arguments in ('{"a":1}', '{"a":1}', '{"b":1}', '{"a":1}', '{"a":1}'):
        remember(talk, arguments, {})
        assert talk.repeated_call() is None
    remember(talk, '{"a":1}', {})
    assert talk.repeated_call() == "calculate_math"


def test_texts_of_two_rounds_are_separated() -> None:
    talk = conversation()
    assert texts(talk.visible([chunk(content="One"), chunk(content=" two.")])) == ["One", " two."]
    talk.rounds = 2
    talk.begin_turn()
    assert texts(talk.visible([chunk(content="Three"), chunk(content=" four.")])) == ["\n\nThree", " four."]


def test_repeated_round_starts_over() -> None:
    talk = conversation()
    assert not talk.shown_this_turn
    talk.visible([chunk(content="x")])
    assert talk.shown_this_turn
    talk.begin_turn()
    assert not talk.shown_this_turn


def test_usage_in_a_chunk_includes_earlier_rounds() -> None:
    talk = conversation(stream=True)
    talk.usage = {"prompt_tokens": 10}
    (event,) = talk.visible([chunk({"prompt_tokens": 5}, content="x")])
    assert isinstance(event, Chunk)
    assert event.usage == {"prompt_tokens": 15}


def test_ending_has_the_last_chunk_and_the_usage_of_all_rounds() -> None:
    talk = conversation()
    last = chunk(content="x")
    talk.visible([last, {"choices": []}])
    talk.usage = {"total_tokens": 42}
    ending = talk.ending("stop")
    assert (ending.chunk, ending.finish_reason, ending.usage) == (last, "stop", {"total_tokens": 42})


def test_images_of_results_follow_the_messages_of_all_tools() -> None:
    talk = conversation()
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    calls = [ToolCall("call-1", "calculate_math", "{}"), ToolCall("call-2", "calculate_math", "{}")]
    turn = Turn(text="", reasoning="", calls=calls, client_calls=[], finish_reason="tool_calls")
    shot = ToolResult("a screen", "ok", "{}", {}, 0.0, images=(image,))
    talk.remember(turn, [(calls[0], shot), (calls[1], ToolResult("2", "ok", "{}", {}, 0.0))])
    messages = body(talk)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "user"]
    text, shown = messages[-1]["content"]
    assert text == {"type": "text", "text": "Images in the result of calculate_math, call call-1:"}
    assert shown == image
