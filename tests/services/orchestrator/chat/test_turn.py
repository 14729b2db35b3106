"""Turns as a real vLLM 0.32 gave them (recordings in wire/), and those that it may give."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.chat.markup import rescue_for
from orchestrator.chat.turn import Finish, HandBack, RunTools, Turn, TurnReader
from orchestrator.protocol import EventBuffer, payloads

WIRE = Path(__file__).parent / "wire"
NAMES = frozenset({"get_current_weather", "calculate_math"})
RESCUE = rescue_for("hermes", "end_of_turn")
NEVER = rescue_for("hermes", None)
NOBODY: frozenset[str] = frozenset()


def reader(client: frozenset[str] = NOBODY, **options: Any) -> TurnReader:
    return TurnReader(NAMES | client, client, rescue=options.pop("rescue", RESCUE), **options)


def recorded(name: str, client: frozenset[str] = NOBODY, **options: Any) -> tuple[list[dict[str, Any]], Turn]:
    """Returns what the client would see of a recording, and the turn."""
    reading = reader(client, **options)
    seen = []
    if (file := WIRE / f"{name}.sse").exists():
        chunks = [json.loads(p) for p in payloads(EventBuffer().feed(file.read_bytes())) if p != b"[DONE]"]
    else:
        chunks = [json.loads((WIRE / f"{name}.json").read_text())["body"]]
    for chunk in chunks:
        if chunk["choices"] and (delta := reading.read(chunk["choices"][0])):
            seen.append(delta)
    rest, turn = reading.end()
    return seen + ([rest] if rest else []), turn


def calls_of(turn: Turn) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in turn.calls]


PARIS = ("get_current_weather", {"location": "Paris"})
TOKYO = ("get_current_weather", {"location": "Tokyo"})
FRISCO = ("get_current_weather", {"location": "San Francisco"})


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("tools-auto", [FRISCO]),
        ("tools-auto-stream", [FRISCO]),
        ("tools-required", [FRISCO]),
        ("tools-two-cities-parallel", [PARIS, TOKYO]),
        ("tools-two-cities-parallel-stream", [PARIS, TOKYO]),
    ],
)
def test_recorded_calls_are_read(name: str, calls: list[Any]) -> None:
    seen, turn = recorded(name)
    assert calls_of(turn) == calls
    assert isinstance(turn.next_step(), RunTools)
    assert all(not delta.get("content") and "tool_calls" not in delta for delta in seen)


@pytest.mark.parametrize("name", ["tools-named", "tools-named-stream"])
def test_turn_for_a_named_function_has_a_call_and_finishes_with_stop(name: str) -> None:
    _, turn = recorded(name)
    assert turn.finish_reason == "stop"
    assert turn.next_step() == RunTools(turn.calls)
    assert calls_of(turn) == [FRISCO]


@pytest.mark.parametrize("name", ["tools-none", "tools-none-stream"])
def test_raw_call_as_content_is_rescued(name: str) -> None:
    _, turn = recorded(name)
    assert calls_of(turn) == [FRISCO]


TAGGED = '<tool_call>{"name": "calculate_math", "arguments": {"expression": "1+1"}}</tool_call>'


def test_calls_in_the_text_are_not_run_if_the_parser_is_known_to_work() -> None:
    reading = reader(rescue=NEVER)
    assert reading.read({"message": {"content": TAGGED}, "finish_reason": "stop"}) is None
    rest, turn = reading.end()
    assert (rest, turn.calls, turn.hidden) == (None, [], True)


def test_text_next_to_calls_from_the_engine_is_not_run() -> None:
    reading = reader()
    calls = [{"id": "a", "type": "function", "function": {"name": "calculate_math", "arguments": "{}"}}]
    reading.read({"message": {"content": TAGGED, "tool_calls": calls}, "finish_reason": "tool_calls"})
    assert [call.id for call in reading.end()[1].calls] == ["a"]


def test_call_that_repeats_what_others_wrote_is_text() -> None:
    asked = []

    def is_repeated(name: str, arguments: str) -> bool:
        asked.append((name, arguments))
        return True

    reading = reader(is_repeated=is_repeated)
    reading.read({"message": {"content": TAGGED}, "finish_reason": "stop"})
    rest, turn = reading.end()
    assert asked == [("calculate_math", '{"expression":"1+1"}')]
    assert (rest, turn.calls, turn.text) == ({"content": TAGGED}, [], TAGGED)


@pytest.mark.parametrize("name", ["tools-required-truncated", "tools-required-truncated-stream"])
def test_truncated_call_finishes_with_length(name: str) -> None:
    seen, turn = recorded(name)
    assert turn.next_step() == Finish("length")
    # Without streaming, vLLM returns the incomplete call as content; with streaming, it returns nothing.
    assert not any(delta.get("content") for delta in seen)


def test_recorded_plain_text_is_read() -> None:
    seen, turn = recorded("chat-plain-stream-usage")
    assert turn.text == "I have no tool for that."
    assert turn.next_step() == Finish("stop")
    assert seen[0]["role"] == "assistant"


def test_recorded_call_for_the_client_waits_for_the_end_of_the_turn() -> None:
    seen, turn = recorded("tools-auto-stream", client=frozenset({"get_current_weather"}))
    assert turn.next_step() == HandBack([])
    assert not any("tool_calls" in delta for delta in seen)
    assert [(c.name, json.loads(c.arguments)) for c in turn.client_calls] == [FRISCO]


def test_only_call_of_a_turn_is_shown_while_it_arrives() -> None:
    seen, turn = recorded("tools-auto-stream", client=frozenset({"get_current_weather"}), live="x{}".format)
    assert turn.next_step() == HandBack([])
    assert turn.client_calls == []
    pieces = [piece for delta in seen for piece in delta.get("tool_calls", [])]
    assert len(pieces) > 2
    assert pieces[0]["function"]["name"] == "get_current_weather"
    assert pieces[0]["id"].startswith("xchatcmpl-tool-")
    assert json.loads("".join(p["function"].get("arguments", "") for p in pieces)) == FRISCO[1]


def test_second_call_is_ignored_if_one_was_shown_while_it_arrived() -> None:
    reading = reader(frozenset({"mine"}), live=str)
    assert reading.read(part("mine", id="a", index=0))
    assert reading.read(part("calculate_math", id="b", index=1)) is None
    rest, turn = reading.end()
    assert rest == {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}
    assert turn.next_step() == HandBack([])


def test_empty_list_of_calls_ends_the_turn() -> None:
    reading = reader()
    reading.read({"message": {"content": "Done", "tool_calls": []}, "finish_reason": "tool_calls"})
    assert reading.end()[1].next_step() == Finish("stop")


def test_content_next_to_calls_is_shown_and_remembered() -> None:
    reading = reader()
    calls = [{"id": "a", "type": "function", "function": {"name": "calculate_math", "arguments": "{}"}}]
    seen = reading.read({"message": {"content": "Hm.", "tool_calls": calls}, "finish_reason": "tool_calls"})
    _, turn = reading.end()
    assert seen == {"content": "Hm."}
    assert turn.message(calls) == {"role": "assistant", "content": "Hm.", "tool_calls": calls}


def test_later_turns_have_no_role() -> None:
    reading = reader(first=False)
    assert reading.read({"delta": {"role": "assistant", "content": ""}}) is None
    assert reading.read({"delta": {"content": "x"}}) == {"content": "x"}


def test_calls_in_the_last_round_are_dropped() -> None:
    reading = reader(tools_offered=False)
    calls = [{"id": "a", "type": "function", "function": {"name": "calculate_math", "arguments": "{}"}}]
    reading.read({"message": {"content": "No.", "tool_calls": calls}, "finish_reason": "tool_calls"})
    _, turn = reading.end()
    assert turn.calls == []
    assert turn.next_step() == Finish("stop")


def test_call_without_an_id_gets_one() -> None:
    reading = reader()
    reading.read({"message": {"tool_calls": [{"function": {"name": "calculate_math", "arguments": "{}"}}]}})
    (call,) = reading.end()[1].calls
    assert call.id.startswith("call_")


@given(
    arguments=st.lists(st.text(max_size=20), min_size=1, max_size=4),
    order=st.randoms(use_true_random=False),
)
def test_parts_of_several_calls_may_be_interleaved(arguments: list[str], order: Any) -> None:
    reading = reader()
    pieces: list[list[dict[str, Any]]] = []
    for index, text in enumerate(arguments):
        first = {"index": index, "id": f"c{index}", "function": {"name": "calculate_math"}}
        pieces.append([first, *({"index": index, "function": {"arguments": c}} for c in text)])
    while any(pieces):
        chosen = order.choice([p for p in pieces if p])
        assert reading.read({"delta": {"content": None, "tool_calls": [chosen.pop(0)]}}) is None
    _, turn = reading.end()
    assert [(call.id, call.arguments) for call in turn.calls] == [
        (f"c{i}", text) for i, text in enumerate(arguments)
    ]


def test_names_of_both_sides_do_not_mix() -> None:
    owners = itertools.product([("calculate_math", False), ("mine", True)], repeat=3)
    for combination in owners:
        reading = reader(frozenset({"mine"}))
        calls = [
            {"index": i, "id": f"c{i}", "function": {"name": name, "arguments": "{}"}}
            for i, (name, _) in enumerate(combination)
        ]
        assert reading.read({"delta": {"tool_calls": calls}}) is None
        _, turn = reading.end()
        mine = [call["id"] for call, (_, is_mine) in zip(calls, combination, strict=True) if is_mine]
        assert [call.id for call in turn.client_calls] == mine
        assert len(turn.calls) + len(mine) == 3
        assert isinstance(turn.next_step(), HandBack if mine else RunTools)


def part(name: str | None = None, arguments: str | None = None, **fields: Any) -> dict[str, Any]:
    given = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {"delta": {"tool_calls": [{**fields, "function": given}]}}


@pytest.mark.parametrize("client", [NOBODY, frozenset({"mine"})])
@pytest.mark.parametrize("index", [{"index": 0}, {}, {"index": None}])
def test_calls_with_one_index_and_different_ids_are_different_calls(
    client: frozenset[str], index: dict[str, Any]
) -> None:
    name = "mine" if client else "calculate_math"
    reading = reader(client)
    for number in "123":
        pieces = [
            part(name, id=f"c{number}", **index),
            part(None, f"[{number}", **index),
            part(None, "]", **index),
        ]
        assert [reading.read(piece) for piece in pieces] == [None, None, None]
    rest, turn = reading.end()
    assert rest is None
    calls = turn.client_calls if client else turn.calls
    assert [(c.id, c.arguments) for c in calls] == [(f"c{n}", f"[{n}]") for n in "123"]


def test_parts_of_calls_with_one_index_follow_their_id() -> None:
    reading = reader()
    for piece in (
        part("calculate_math", "[", index=0, id="a"),
        part("calculate_math", "{", index=0, id="b"),
        part(None, "]", index=0, id="a"),
        part(None, "}", index=0, id="b"),
    ):
        reading.read(piece)
    assert [(c.id, c.arguments) for c in reading.end()[1].calls] == [("a", "[]"), ("b", "{}")]


def test_calls_with_one_index_and_no_ids_differ_by_name() -> None:
    reading = reader()
    for piece in (
        part("calculate_math", "[", index=0),
        part("calculate_math", "1", index=0),
        part(None, "]", index=0),
        part("get_current_weather", "{}", index=0),
    ):
        reading.read(piece)
    calls = reading.end()[1].calls
    assert [(call.name, call.arguments) for call in calls] == [
        ("calculate_math", "[1]"),
        ("get_current_weather", "{}"),
    ]
    assert len({call.id for call in calls}) == 2


def test_new_id_without_a_name_continues_the_call() -> None:
    reading = reader()
    reading.read(part("calculate_math", "[", index=0, id="a"))
    reading.read(part(None, "]", index=0, id="other"))
    assert [(c.id, c.arguments) for c in reading.end()[1].calls] == [("a", "[]")]


def test_reasoning_in_both_fields_is_remembered_once() -> None:
    reading = reader()
    seen = [
        reading.read({"delta": {"reasoning": "a", "reasoning_content": "a"}}),
        reading.read({"delta": {"reasoning_content": "b", "reasoning": "b"}}),
        reading.read({"delta": {"reasoning_content": "c"}}),
        reading.read({"delta": {"reasoning_content": "d", "reasoning": None}}),
    ]
    assert "".join(delta["reasoning_content"] for delta in seen if delta) == "abcd"
    assert reading.end()[1].reasoning == "abcd"


THOUGHT = f"I must calculate. {TAGGED}"


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_call_at_the_end_of_reasoning_without_an_answer_is_rescued(content: str | None) -> None:
    reading = reader()
    reading.read({"message": {"reasoning": THOUGHT, "content": content}, "finish_reason": "stop"})
    rest, turn = reading.end()
    assert rest is None
    assert calls_of(turn) == [("calculate_math", {"expression": "1+1"})]
    assert turn.reasoning == "I must calculate. "
    assert isinstance(turn.next_step(), RunTools)


@pytest.mark.parametrize(
    ("message", "options", "finish"),
    [
        ({"reasoning": THOUGHT, "content": "2"}, {}, "stop"),
        ({"reasoning": f"{THOUGHT} is how one does it."}, {}, "stop"),
        ({"reasoning": f"`{TAGGED}"}, {}, "stop"),
        ({"reasoning": THOUGHT}, {"is_repeated": lambda *_: True}, "stop"),
        ({"reasoning": THOUGHT}, {"tools_offered": False}, "stop"),
        ({"reasoning": THOUGHT}, {"rescue": NEVER}, "stop"),
        ({"reasoning": THOUGHT}, {}, "length"),
    ],
)
def test_other_calls_in_reasoning_are_not_run(message: Any, options: Any, finish: str) -> None:
    reading = reader(**options)
    reading.read({"message": message, "finish_reason": finish})
    turn = reading.end()[1]
    assert turn.calls == []
    assert turn.next_step() == Finish(finish)
