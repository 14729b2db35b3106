"""The table of call formats: calls for every parser in models.yaml are read, truncated and dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.chat.markup import MARKUPS, rescue_for
from orchestrator.chat.scanner import CallScanner
from tests.support.live import live, text_of
from tests.support.scripted_engine import ScriptedEngine, call, stream, text, whole

from .loop_requests import WEATHER
from .written_calls import ALL_WRITTEN as OF_PARSERS
from .written_calls import TAGGED as TAGGED_OF_PARSERS
from .written_calls import WRITTEN

NAMES = frozenset({"get_current_weather"})
SCHEMA = {"properties": {"location": {"type": "string"}, "days": {"type": "integer"}, "all": {}}}


def scan(parser: str, written: str, *, size: int | None = None, cut: bool = False, drop: bool = False) -> Any:
    rescue = rescue_for(parser or None, None)
    scanner = CallScanner(
        rescue.markup, bare=rescue.bare, names=NAMES, parameters=lambda _: SCHEMA, drop=drop
    )
    size = size or len(written) or 1
    pieces = [written[at : at + size] for at in range(0, len(written), size)]
    shown = "".join([scanner.feed(piece) for piece in pieces] + [scanner.end(cut=cut)])
    return shown, [(name, json.loads(arguments)) for name, arguments in scanner.found.calls]


PARIS = ("get_current_weather", {"location": "Paris"})


def test_table_has_every_parser_in_models_yaml() -> None:
    models = yaml.safe_load(Path("services/vllm/models.yaml").read_text())["models"].values()
    offered = {model["tool_call_parser"] for model in models} - {None}
    assert offered == set(MARKUPS) == set(WRITTEN)


# With an unknown parser, the formats of all parsers count.
ALL_WRITTEN = [*OF_PARSERS, *(("", written) for _, written in OF_PARSERS)]
UNKNOWN = ("", "a_parser_of_tomorrow")
TAGGED = [*TAGGED_OF_PARSERS, *((parser, text) for _, text in TAGGED_OF_PARSERS for parser in UNKNOWN)]


@pytest.mark.parametrize(("parser", "written"), ALL_WRITTEN)
@pytest.mark.parametrize("size", [None, 1, 3])
def test_call_at_the_end_of_a_turn_is_found_and_not_shown(
    parser: str, written: str, size: int | None
) -> None:
    assert scan(parser, written, size=size) == ("", [PARIS])
    assert scan(parser, f"\n{written}\n", size=size)[1] == [PARIS]


@pytest.mark.parametrize(("parser", "written"), TAGGED)
@pytest.mark.parametrize("size", [None, 1, 3])
def test_several_calls_after_text_are_found(parser: str, written: str, size: int | None) -> None:
    assert scan(parser, f"Let me look.\n{written}\n{written}", size=size) == (
        "Let me look.\n",
        [PARIS, PARIS],
    )


@pytest.mark.parametrize(("parser", "written"), TAGGED)
@pytest.mark.parametrize("size", [None, 1])
def test_truncated_call_is_never_shown(parser: str, written: str, size: int | None) -> None:
    for length in range(5, len(written) + 1):
        shown, _ = scan(parser, f"Hi. {written[:length]}", size=size, cut=True)
        assert shown == "Hi. "


@pytest.mark.parametrize(("parser", "written"), TAGGED)
def test_calls_in_the_last_round_are_dropped_wherever_they_are(parser: str, written: str) -> None:
    assert scan(parser, f"A {written}\nB {written} ", size=1, drop=True) == ("A B ", [])


@pytest.mark.parametrize(("parser", "written"), ALL_WRITTEN)
def test_call_followed_by_text_is_text(parser: str, written: str) -> None:
    for size in (None, 1):
        assert scan(parser, f"{written}\nis how.", size=size) == (f"{written}\nis how.", [])


@pytest.mark.parametrize(("parser", "written"), ALL_WRITTEN)
def test_call_of_an_unknown_tool_is_text(parser: str, written: str) -> None:
    other = written.replace("get_current_weather", "send_fax")
    assert scan(parser, other, size=1) == (other, [])


def test_values_in_qwens_xml_get_the_type_of_their_parameter() -> None:
    written = (
        "<tool_call>\n<function=get_current_weather>\n<parameter=location>\n75001\n</parameter>\n"
        '<parameter=days>\n3\n</parameter>\n<parameter=all>\n{"a": [null]}\n</parameter>\n</function>'
        "\n</tool_call>"
    )
    ((_, arguments),) = scan("qwen3_coder", written)[1]
    assert arguments == {"location": "75001", "days": 3, "all": {"a": [None]}}


@pytest.mark.parametrize(
    ("parser", "setting", "runs"),
    [
        (None, None, True),
        (None, "never", False),
        ("none", None, True),
        ("none", "never", False),
        *((parser, None, False) for parser in MARKUPS),
        *((parser, "end_of_turn", True) for parser in MARKUPS),
        ("a_parser_of_tomorrow", None, False),
    ],
)
def test_calls_are_left_to_parsers_that_are_known_to_work(
    parser: str | None, setting: Any, runs: bool
) -> None:
    assert rescue_for(parser, setting).runs is runs


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("parser", "written"), ALL_WRITTEN)
async def test_no_markup_reaches_the_client(
    engine: ScriptedEngine, parser: str, written: str, streaming: bool
) -> None:
    cut = written[: len(written) * 2 // 3]
    first = whole(calls=[call("get_current_weather", {"location": "Oslo"})])
    replies = {
        "cut": [whole(f"\n{cut}", finish="length")],
        "last request": [first, whole(f"\n{written}")],
        "whole": [whole(written)],
    }
    if streaming:
        calls = [{"content": None, "tool_calls": [{"index": 0, **call("get_current_weather", "{}")}]}]
        replies = {
            "cut": [stream(*text("\n", *cut), finish="length")],
            "last request": [stream(*calls), stream(*text("\n", *written))],
            "whole": [stream(*text(*written))],
        }
    async with live(engine.url, TOOL_CALL_PARSER=parser, MAX_TOOL_ROUNDS="1", RESCUE="never") as server:
        for case, script in replies.items():
            engine.play(*script)
            if streaming:
                content = text_of(await server.chat_events(tools=[WEATHER]))
            else:
                message = (await server.chat(tools=[WEATHER])).json()["choices"][0]["message"]
                content = message["content"] or ""
            assert not content.strip() or content.strip().startswith("("), (case, content)
            for trace in ("<", "[TOOL", "functions.", '{"', "call:"):
                assert trace not in content, (case, content)
