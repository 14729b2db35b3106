from __future__ import annotations

import itertools
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.chat.markup import HERMES, MARKUPS, Markup
from orchestrator.chat.scanner import CallScanner

from .written_calls import ALL_WRITTEN

NAMES = frozenset({"get_current_weather", "calculate_math"})
PARIS = '<tool_call>\n{"name": "get_current_weather", "arguments": {"location": "Paris"}}\n</tool_call>'
BARE = '{"tool": "calculate_math", "arguments": {"expression": "1+1"}}'


def scanner_of(markup: Markup = HERMES, *, bare: bool = True, drop: bool = False) -> CallScanner:
    return CallScanner(markup, bare=bare, names=NAMES, parameters=lambda _: {}, drop=drop)


def scan(
    *pieces: str, bare: bool = True, cut: bool = False, drop: bool = False
) -> tuple[str, list[tuple[str, str]]]:
    scanner = scanner_of(bare=bare, drop=drop)
    shown = "".join([scanner.feed(piece) for piece in pieces] + [scanner.end(cut=cut)])
    return shown, scanner.found.calls


def shown_at_once(*pieces: str) -> list[str]:
    scanner = scanner_of()
    return [scanner.feed(piece) for piece in pieces]


def test_call_at_the_end_is_removed_from_the_text() -> None:
    shown, calls = scan(f"Let me look.\n{PARIS}\n")
    assert shown == "Let me look.\n"
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [
        ("get_current_weather", {"location": "Paris"})
    ]


def test_several_calls_keep_their_order() -> None:
    tokyo = PARIS.replace("Paris", "Tokyo")
    shown, calls = scan(f"{PARIS}\n{tokyo}\n")
    assert shown == ""
    assert [json.loads(arguments)["location"] for _, arguments in calls] == ["Paris", "Tokyo"]


QUOTING = [
    "`{}`",
    "`{}",
    "``{}``",
    "```\n{}\n```",
    "```\n{}",
    "````\n```\n{}\n```\n````",
    "````\n```\n{}",
    "~~~\n{}\n~~~",
    "```json\n{}\n```",
    "> {}",
    "> ```\n> {}",
    "> ```\n> a\n```\n{}",
    "- {}",
    "1. {}",
    "- ```\n  {}",
    "    {}",
    'He said "{}"',
    'He said "{}',
    "“{}",
    "<code>{}</code>",
    "<pre>\n{}",
    "<!-- {}",
    "<think>{}",
    "{} is how it is written.",
    "{}\n\nThat was an example.",
    "{}.",
    "| {} |",
]


@pytest.mark.parametrize("quoting", QUOTING)
@pytest.mark.parametrize(("parser", "written"), ALL_WRITTEN)
def test_quoted_calls_are_text(parser: str, written: str, quoting: str) -> None:
    text = "Write it so:\n\n" + quoting.replace("{}", written)
    scanner = scanner_of(MARKUPS[parser], bare=MARKUPS[parser].bare)
    assert scanner.feed(text) + scanner.end(cut=False) == text
    assert scanner.found.calls == []
    assert not scanner.found.hidden


def test_call_after_a_closed_quotation_is_removed() -> None:
    for text in ("```\ncode\n```\n", "Use `x`.\n", "> said\n\n", "- a\n\nNow: "):
        shown, calls = scan(text + PARIS)
        assert shown == text
        assert len(calls) == 1


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "<tool_call>{",
        '<tool_call>{"name": "get_current_weather", "arguments": {',
        "The <tool_call> tag",
        "a < b and <tool",
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
        "<tool_call>[1]</tool_call>",
        "</tool_call>",
        '<tool_call>{"a" <b>}</tool_call>',
        f"<tool_call>{'[' * 200}",
    ],
)
def test_text_without_a_whole_call_of_a_known_tool_stays_text(text: str) -> None:
    assert scan(text) == (text, [])
    assert scan(*text) == (text, [])


def test_broken_json_of_a_known_tool_is_a_call_that_the_model_must_correct() -> None:
    shown, calls = scan('<tool_call>{"name": "calculate_math", "arguments": {"expression": }</tool_call>')
    assert shown == ""
    assert calls == [("calculate_math", '{"expression":')]
    shown, calls = scan('<tool_call>{"name": "calculate_math", "arguments": {"expression": "1}</tool_call>')
    assert (shown, [name for name, _ in calls]) == ("", ["calculate_math"])


def test_closing_tag_inside_an_argument_does_not_end_the_call() -> None:
    arguments = {"expression": "</tool_call>"}
    text = "<tool_call>" + json.dumps({"name": "calculate_math", "arguments": arguments}) + "</tool_call>"
    shown, calls = scan(text)
    assert shown == ""
    assert json.loads(calls[0][1]) == arguments


def test_bare_call_is_found_only_if_it_is_the_whole_text() -> None:
    assert scan(f"  {BARE}\n") == ("", [("calculate_math", '{"expression":"1+1"}')])
    assert scan(f"{BARE} so.") == (f"{BARE} so.", [])
    assert scan(f"So: {BARE}") == (f"So: {BARE}", [])


def test_bare_call_is_text_if_json_was_requested() -> None:
    assert scan(BARE, bare=False) == (BARE, [])


@pytest.mark.parametrize(
    "text",
    ['{"tool": "unknown", "arguments": {}}', '{"answer": 42}', '{"tool": "calculate_math"}', "{}", "{"],
)
def test_other_json_is_text(text: str) -> None:
    assert scan(text) == (text, [])


def test_truncated_bare_object_is_shown_only_if_it_cannot_be_a_call() -> None:
    assert scan(BARE[:40], cut=True)[0] == ""
    assert scan('{"name": "Bob", "parameters": {"a', cut=True)[0] == '{"name": "Bob", "parameters": {"a'
    assert scan('{"name": "Bo', cut=True)[0] == '{"name": "Bo'


def test_text_is_released_as_soon_as_it_cannot_become_a_call() -> None:
    assert shown_at_once("Hello <", "b> there") == ["Hello ", "<b> there"]
    assert shown_at_once("x", "<tool_call>", "is a tag") == ["x", "", "<tool_call>is a tag"]
    assert shown_at_once('{"a', 'nswer": 1}') == ["", '{"answer": 1}']
    assert shown_at_once("{", "x") == ["", "{x"]
    assert shown_at_once(BARE, " and") == ["", f"{BARE} and"]
    assert shown_at_once(PARIS, "\n", "so") == ["", "", f"{PARIS}\nso"]


def test_unclosed_call_is_not_held_back_forever() -> None:
    shown = shown_at_once('<tool_call>{"name": "', "x" * 70_000)
    assert len("".join(shown)) > 70_000


WORDS = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        "<tool",
        "_call>",
        "{",
        "}",
        '"name": ',
        '"get_current_weather"',
        ", ",
        '"arguments": {}',
        "```",
        "\n",
        " ",
        "text",
        "<",
        "é",
        "~~~",
        '"',
        "\\",
        "> ",
        "`",
        BARE,
        PARIS,
        "[TOOL_CALLS]",
        "[ARGS]",
        "<function=calculate_math>",
        "</function>",
        "<parameter=a>",
        "</parameter>",
        "<|channel|>",
        "commentary to=functions.calculate_math",
        "<|message|>",
        "<|call|>",
        "<|python_tag|>",
        "<|tool_call>",
        "call:calculate_math{",
        "<tool_call|>",
        "[",
        "]",
        ";",
        *(text for _, text in ALL_WRITTEN),
    ]
)
TEXTS = st.lists(WORDS, max_size=12).map("".join)
CUTS = st.lists(st.integers(0, 10_000), max_size=8)
PARSERS = st.sampled_from(sorted(MARKUPS))


def pieces_of(text: str, at: list[int]) -> list[str]:
    places = sorted({place % (len(text) + 1) for place in at})
    return [text[a:b] for a, b in itertools.pairwise([0, *places, len(text)])]


@settings(max_examples=300)
@given(PARSERS, TEXTS, CUTS, st.booleans(), st.booleans(), st.booleans())
def test_text_and_calls_do_not_depend_on_how_the_text_is_split(
    parser: str, text: str, at: list[int], bare: bool, cut: bool, drop: bool
) -> None:
    def outcome(pieces: list[str]) -> object:
        scanner = scanner_of(MARKUPS[parser], bare=bare, drop=drop)
        shown = "".join([scanner.feed(piece) for piece in pieces] + [scanner.end(cut=cut)])
        return shown, scanner.found

    assert outcome(pieces_of(text, at)) == outcome([text])


@settings(max_examples=300)
@given(PARSERS, TEXTS, CUTS, st.booleans())
def test_no_text_is_lost_unless_it_is_a_call(parser: str, text: str, at: list[int], bare: bool) -> None:
    scanner = scanner_of(MARKUPS[parser], bare=bare)
    shown = "".join([scanner.feed(piece) for piece in pieces_of(text, at)] + [scanner.end(cut=False)])
    if not scanner.found.hidden:
        assert shown == text
    else:
        assert text.startswith(shown)
        assert scanner.found.calls


def test_a_call_before_one_without_an_end_is_shown() -> None:
    call = (
        "<function=get_current_weather>\n<parameter=location>\nParis\n</parameter>\n</function>\n</tool_call>"
    )
    text = f"<tool_call>\n{call}<function=calculate_math>"
    scanner = scanner_of(MARKUPS["qwen3_coder"], bare=False)
    assert scanner.feed(text) + scanner.end(cut=False) == text
    assert not scanner.found.hidden
    assert not scanner.found.calls


LINES_PER_CHARACTER = 40


@settings(max_examples=100)
@given(
    PARSERS, st.lists(WORDS, min_size=1, max_size=6).map("".join), WORDS, st.integers(1, 400), st.booleans()
)
def test_number_of_steps_is_linear_in_the_length_of_the_text(
    parser: str, first: str, word: str, count: int, bare: bool
) -> None:
    """Even for text that a user makes a model write token by token, the steps per character are limited."""
    scanner = scanner_of(MARKUPS[parser], bare=bare)
    for piece in [first, *[word] * count]:
        scanner.feed(piece)
    scanner.end(cut=False)
    length = len(first) + count * len(word)
    assert scanner.steps <= 600 + LINES_PER_CHARACTER * length + 300 * count


@pytest.mark.parametrize("parser", sorted(MARKUPS))
@pytest.mark.parametrize(
    ("first", "token"),
    [
        ('<tool_call>{"a":"', "</tool_call>"),
        ("<tool_call>{", "</tool_call>"),
        ('{"tool":', "["),
        ('{"tool":"', " word"),
        ('<tool_call>{"a":"', " word"),
        ("", "<tool_call>"),
        ("", "<tool_call>{"),
        ("", PARIS),
        ("<tool_call>", " "),
        ("", "`"),
        ("> ", "> "),
        ("", '"'),
        ("", "<a "),
        ("", "[TOOL_CALLS]"),
        ("[TOOL_CALLS]a", "[ARGS]"),
        ("<|channel|>", "<|channel|>"),
        ("<|tool_call>call:a{", "<tool_call|"),
        ("<function=calculate_math>", "<parameter=a>"),
        ("<function=calculate_math>", "</function"),
        ("", BARE + ";"),
        ("", "<"),
        ("[TOOL_CALLS][", "{},"),
        ("<|python_tag|>", '{"name":"calculate_math"};'),
    ],
)
def test_hostile_text_is_processed_quickly(parser: str, first: str, token: str) -> None:
    scanner = scanner_of(MARKUPS[parser])
    began = time.process_time()
    scanner.feed(first)
    for _ in range(5400):
        scanner.feed(token)
    scanner.end(cut=False)
    assert time.process_time() - began < 2


@given(st.text(alphabet=st.characters(exclude_characters="<{`~"), max_size=60))
def test_plain_text_is_passed_on_at_once(text: str) -> None:
    scanner = scanner_of(bare=False)
    assert scanner.feed(text) == text
    assert scanner.end(cut=False) == ""
