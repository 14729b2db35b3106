"""Whatever the loop does, the message's events are those that the anthropic package expects."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.messages.projection import MessageProjection
from orchestrator.chat.conversation import Chunk, Ending, Event, ToolEvent
from orchestrator.errors import EngineBroke
from tests.support.anthropic_types import check_error, check_events, check_message
from tests.support.live import events_of

from ..responses.test_projection import (
    CHUNK,
    USAGE,
    client_call,
    ending,
    finished,
    histories,
    reasoning,
    started,
    text,
)

Json = dict[str, Any]


def play(*history: Event) -> tuple[list[Json], Json]:
    projection = MessageProjection("asked")
    events = [event for item in history for event in projection.project(item)]
    return events, projection.answer


@settings(max_examples=60)
@given(histories(), st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
def test_any_history_is_a_valid_message(history: list[Event], reason: str) -> None:
    events, message = play(*history, ending(reason))
    check_message(message)
    joined = check_events(events)
    for block, seen in zip(message["content"], joined["content"], strict=True):
        assert all(block[name] == seen[name] for name in ("type", "text", "thinking", "id") if name in block)
        if seen["json"]:
            try:
                given = orjson.loads(seen["json"])
            except orjson.JSONDecodeError:
                given = {}
            assert block["input"] == (given if isinstance(given, dict) else {})
    assert {name: message[name] for name in ("stop_reason", "usage")} == {
        name: joined[name] for name in ("stop_reason", "usage")
    }


@given(histories())
def test_nothing_that_was_written_is_lost(history: list[Event]) -> None:
    _, message = play(*history, ending("tool_calls"))
    written = "".join(item.delta.get("content") or "" for item in history if isinstance(item, Chunk))
    shown = "".join(block.get("text", "") for block in message["content"])
    assert "".join(shown.split()) == "".join(written.split())
    names = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
    assert names == [f"client-{index}" for index in range(len(names))]


def test_rounds_are_blocks_in_order() -> None:
    events, message = play(
        reasoning("Hm"), text("Let me see."), started("a"), started("b"), finished("b"), finished("a"),
        text("\n"), text("It is 2."), ending(),
    )  # fmt: skip
    check_events(events)
    assert [block["type"] for block in message["content"]] == [
        "thinking", "text", "mcp_tool_use", "mcp_tool_use", "mcp_tool_result", "mcp_tool_result", "text",
    ]  # fmt: skip
    assert message["content"][2]["input"] == {"x": 1}
    assert message["content"][2]["server_name"] == "tandem"
    assert (message["model"], message["stop_reason"]) == ("served", "end_turn")
    assert message["content"][0]["signature"]


def test_alternating_calls_of_the_client_become_blocks_one_after_the_other() -> None:
    events, message = play(
        client_call(0, "", "f"), client_call(1, '{"a"', "g"), client_call(0, "{}"), client_call(1, ": 1}"),
        ending("tool_calls"),
    )  # fmt: skip
    check_events(events)
    assert [(block["id"], block["input"]) for block in message["content"]] == [
        ("client-0", {}), ("client-1", {"a": 1}),
    ]  # fmt: skip
    assert message["stop_reason"] == "tool_use"


def test_call_of_another_servers_tool_has_its_name() -> None:
    projection = MessageProjection("m", lambda name: ("files", name.removeprefix("files__")))
    for item in (started("2"), finished("2"), ending()):
        projection.project(item)
    used = projection.answer["content"][0]
    assert (used["name"], used["server_name"]) == ("read", "files")


def test_failed_call_is_marked() -> None:
    event = finished("a")
    assert isinstance(event, ToolEvent)
    event.event["outcome"] = "timeout"
    _, message = play(started("a"), event, ending())
    assert message["content"][1]["is_error"] is True


@pytest.mark.parametrize(
    ("finish", "stopped_at", "reason"),
    [
        ("stop", None, "end_turn"), ("stop", 7, "end_turn"), ("stop", "END", "stop_sequence"),
        ("length", "END", "max_tokens"), ("content_filter", None, "refusal"), ("odd", None, "end_turn"),
    ],
)  # fmt: skip
def test_stop_reason(finish: str, stopped_at: Any, reason: str) -> None:
    chunk = {**CHUNK, "choices": [{"index": 0, "stop_reason": stopped_at}]}
    _, message = play(text("a"), Ending(chunk, finish, USAGE))
    assert message["stop_reason"] == reason
    assert message["stop_sequence"] == ("END" if reason == "stop_sequence" else None)


def test_usage_counts_cached_tokens_apart() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    _, message = play(Ending(CHUNK, "stop", usage))
    assert message["usage"] == {"input_tokens": 6, "cache_read_input_tokens": 4, "output_tokens": 2}


def test_failure_is_the_last_event() -> None:
    projection = MessageProjection("m")
    projection.project(text("a"))
    [error] = events_of(projection.last_events(EngineBroke("Broke"), "r").decode())
    assert isinstance(error, dict)
    check_error(error)
    projection.project(ending())
    assert projection.last_events(EngineBroke("Broke"), "r") == b""
