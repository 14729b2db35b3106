from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.chat.markup import CallScanner

NAMES = frozenset({"get_current_weather", "calculate_math"})
PARIS = '<tool_call>\n{"name": "get_current_weather", "arguments": {"location": "Paris"}}\n</tool_call>'
BARE = '{"tool": "calculate_math", "arguments": {"expression": "1+1"}}'


def scan(*pieces: str, bare: bool = True) -> tuple[str, list[tuple[str, str]]]:
    ids = itertools.count()
    scanner = CallScanner(NAMES, lambda: f"id{next(ids)}", bare=bare)
    shown = "".join([scanner.feed(piece) for piece in pieces] + [scanner.end()])
    return shown, [(call.name, call.arguments) for call in scanner.calls]


def shown_at_once(*pieces: str) -> list[str]:
    scanner = CallScanner(NAMES, lambda: "id", bare=True)
    return [scanner.feed(piece) for piece in pieces]


def test_tagged_call_is_taken_out_of_the_text() -> None:
    shown, calls = scan(f"Let me look.\n{PARIS}\nDone.")
    assert shown == "Let me look.\nDone."
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [
        ("get_current_weather", {"location": "Paris"})
    ]


def test_several_calls_keep_their_order_and_leave_no_white_space() -> None:
    tokyo = PARIS.replace("Paris", "Tokyo")
    shown, calls = scan(f"{PARIS}\n{tokyo}\n")
    assert shown == ""
    assert [json.loads(arguments)["location"] for _, arguments in calls] == ["Paris", "Tokyo"]


@pytest.mark.parametrize("fence", ["```", "~~~", "```json", "  ```"])
def test_call_inside_a_code_fence_is_text(fence: str) -> None:
    text = f"Like so:\n{fence}\n{PARIS}\n{fence[:5].rstrip('json')}\nThat is how."
    assert scan(text) == (text, [])


def test_call_after_a_closed_fence_is_taken() -> None:
    shown, calls = scan(f"```\ncode\n```\n{PARIS}")
    assert shown == "```\ncode\n```\n"
    assert len(calls) == 1


def test_backticks_within_a_line_open_no_fence() -> None:
    assert len(scan(f"Use ``` here: {PARIS}")[1]) == 1


def test_other_fence_marker_does_not_close_a_fence() -> None:
    text = f"```\n~~~\n{PARIS}\n```"
    assert scan(text) == (text, [])


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "<tool_call>{",
        '<tool_call>{"name": "get_current_weather", "arguments": {',
        '<tool_call>{"name": "get_current_weather", "arguments": {"location": "Paris"}}',
        '<tool_call>{"name": "get_current_weather", "arguments": {}}</tool_cal',
        "The <tool_call> tag",
        "a < b and <tool",
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
        "<tool_call>[1]</tool_call>",
        "</tool_call>",
    ],
)
def test_what_is_no_whole_call_in_play_stays_text(text: str) -> None:
    assert scan(text) == (text, [])


def test_broken_json_of_a_known_tool_is_a_call_that_the_model_must_mend() -> None:
    shown, calls = scan('<tool_call>{"name": "calculate_math", "arguments": {"expression": }</tool_call>')
    assert shown == ""
    assert calls == [("calculate_math", '{"expression":')]


def test_closing_tag_inside_an_argument_does_not_end_the_call() -> None:
    arguments = {"expression": "</tool_call>"}
    text = "<tool_call>" + json.dumps({"name": "calculate_math", "arguments": arguments}) + "</tool_call>"
    shown, calls = scan(text)
    assert shown == ""
    assert json.loads(calls[0][1]) == arguments


def test_bare_call_is_taken_only_as_the_whole_text() -> None:
    assert scan(f"  {BARE}\n") == ("", [("calculate_math", '{"expression":"1+1"}')])
    assert scan(f"{BARE} so.") == (f"{BARE} so.", [])
    assert scan(f"So: {BARE}") == (f"So: {BARE}", [])


def test_bare_call_is_text_where_json_was_asked_for() -> None:
    assert scan(BARE, bare=False) == (BARE, [])


@pytest.mark.parametrize(
    "text",
    ['{"tool": "unknown", "arguments": {}}', '{"answer": 42}', '{"tool": "calculate_math"}', "{}", "{"],
)
def test_other_json_is_text(text: str) -> None:
    assert scan(text) == (text, [])


def test_text_is_released_as_soon_as_it_cannot_become_a_call() -> None:
    assert shown_at_once("Hello <", "b> there") == ["Hello ", "<b> there"]
    assert shown_at_once("x", "<tool_call>", "is a tag") == ["x", "", "<tool_call>is a tag"]
    assert shown_at_once('{"a', 'nswer": 1}') == ["", '{"answer": 1}']
    assert shown_at_once("{", "x") == ["", "{x"]
    assert shown_at_once(BARE, " and") == ["", f"{BARE} and"]


def test_unclosed_call_is_not_held_for_ever() -> None:
    shown = shown_at_once('<tool_call>{"name": "', "x" * 70_000)
    assert len("".join(shown)) > 70_000


WORDS = st.sampled_from(
    ["<tool_call>", "</tool_call>", "<tool", "_call>", "{", "}", '"name": ', '"get_current_weather"', ", ",
     '"arguments": {}', "```", "\n", " ", "text", "<", "é", "~~~", BARE, PARIS]
)  # fmt: skip


def cut(text: str, at: list[int]) -> list[str]:
    places = sorted({place % (len(text) + 1) for place in at})
    return [text[a:b] for a, b in itertools.pairwise([0, *places, len(text)])]


@given(st.lists(WORDS, max_size=12).map("".join), st.lists(st.integers(0, 10_000), max_size=8))
def test_any_split_gives_the_same_text_and_calls(text: str, at: list[int]) -> None:
    assert scan(*cut(text, at)) == scan(text)


@given(st.text(max_size=40), st.integers(1, len(PARIS) - 1), st.lists(st.integers(0, 500), max_size=5))
def test_half_a_call_is_neither_lost_nor_run(before: str, length: int, at: list[int]) -> None:
    text = before + PARIS[:length]
    assert scan(*cut(text, at)) == (text, [])


@given(st.text(alphabet=st.characters(exclude_characters="<{`~"), max_size=60))
def test_plain_text_passes_at_once(text: str) -> None:
    scanner = CallScanner(NAMES, lambda: "id", bare=False)
    assert scanner.feed(text) == text
    assert scanner.end() == ""
