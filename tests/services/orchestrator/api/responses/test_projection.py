"""Whatever the loop does, the response's events are those that the openai package expects."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.responses.projection import ResponseProjection
from orchestrator.api.responses.request import ResponseRequest, parse
from orchestrator.chat.conversation import Chunk, Ending, Event, ToolEvent
from orchestrator.errors import ApiError, EngineBroke, InvalidRequest, Overloaded
from orchestrator.tools.toolbox import Toolbox
from tests.support.live import events_of
from tests.support.openai_types import check, check_response_events

Json = dict[str, Any]
CHUNK = {"id": "chatcmpl-1", "created": 1, "model": "served", "choices": [{"index": 0}]}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def request(**fields: Any) -> ResponseRequest:
    asked = parse({"model": "asked", "input": "Hi", **fields}, Toolbox([]))
    asked.mcp.labels |= {"files__read": ("files", "read"), "files__rm": ("files", "rm")}
    asked.mcp.approval.add("files__rm")
    asked.mcp.listings.append({"type": "mcp_list_tools", "server_label": "files", "tools": []})
    return asked


def text(value: str) -> Event:
    return Chunk(CHUNK, {"content": value}, None)


def reasoning(value: str) -> Event:
    return Chunk(CHUNK, {"reasoning": value}, None)


def client_call(index: int, arguments: str, name: str | None = None) -> Event:
    delta: Json = {"index": index, "function": {"arguments": arguments}}
    if name:
        delta |= {"id": f"client-{index}", "function": {"name": name, "arguments": arguments}}
    return Chunk(CHUNK, {"tool_calls": [delta]}, None)


def name_of(id: str) -> str:
    """Every third call is one of an MCP server's tool."""
    return "files__read" if id.endswith(("2", "5", "8")) else "f"


def started(id: str) -> Event:
    return ToolEvent({"type": "tool_call.started", "id": id, "name": name_of(id), "arguments": '{"x": 1}'})


def finished(id: str, outcome: str = "ok") -> Event:
    fields = {"outcome": outcome, "result": "1", "seconds": 0.1, "name": name_of(id), "arguments": "{}"}
    return ToolEvent({"type": "tool_call.finished", "id": id, **fields})


def ending(reason: str = "stop") -> Event:
    return Ending(CHUNK, reason, USAGE)


def play(history: list[Event], error: ApiError | None = None) -> list[Json]:
    """Returns the events for a history, which ends with its `Ending` or with an error."""
    projection = ResponseProjection(request())
    events = [event for item in history for event in projection.project(item)]
    if error:
        last = events_of(projection.last_events(error, "r").decode())
        events += [event for event in last if isinstance(event, dict)]
    return events


def kinds_of(events: list[Json]) -> list[str]:
    return [item["type"] for item in events[-1]["response"]["output"]]


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """What the loop may emit: rounds with text, reasoning and calls, then an end."""
    words = st.text(min_size=1, max_size=3) | st.sampled_from([" ", "\n\n"])
    events: list[Event] = [Chunk(CHUNK, {"role": "assistant", "content": ""}, None)]
    number = 0
    for _ in range(draw(st.integers(0, 3))):
        pieces = st.builds(text, words) | st.builds(reasoning, words)
        events += draw(st.lists(pieces, max_size=4))
        ids = [f"call-{number + n}" for n in range(draw(st.integers(0, 3)))]
        number += len(ids)
        events += map(started, ids)
        outcomes = st.sampled_from(["ok", "error", "timeout"])
        events += [finished(id, draw(outcomes)) for id in draw(st.permutations(ids))]
    events += draw(st.lists(st.builds(reasoning, words) | st.builds(text, words), max_size=3))
    calls = draw(st.integers(0, 3))
    mine = st.sampled_from(["mine", "files__rm"])
    for index in range(calls):
        events.append(client_call(index, draw(st.text(max_size=2)), draw(mine)))
        events += draw(st.lists(st.builds(text, words), max_size=1))
    if calls:
        more = st.builds(client_call, st.integers(0, calls - 1), st.text(max_size=2))
        events += draw(st.lists(more, max_size=3))
    return events


@settings(max_examples=60)
@given(histories(), st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
def test_any_history_is_a_valid_response(history: list[Event], reason: str) -> None:
    events = play([*history, ending(reason)])
    check_response_events(events)
    response = events[-1]["response"]
    assert check(response) == "response"
    incomplete = reason in ("length", "content_filter")
    assert (response["incomplete_details"] is not None) == incomplete
    statuses = {item["status"] for item in response["output"] if "status" in item}
    assert incomplete or statuses <= {"completed", "failed"}


@settings(max_examples=60)
@given(histories(), st.integers(0, 20))
def test_any_failure_ends_the_response(history: list[Event], at: int) -> None:
    events = play(history[:at], EngineBroke("The engine broke"))
    assert check_response_events(events)[-1] == "response.failed"
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "The engine broke"}


def test_rounds_are_items_in_order() -> None:
    events = play(
        [reasoning("Hm"), text("Let me see."), started("a"), started("b"), finished("b"), finished("a"),
         text("It is"), text(" 2."), ending()]
    )  # fmt: skip
    assert kinds_of(events)[1:] == ["reasoning", "message", "mcp_call", "mcp_call", "message"]
    output = events[-1]["response"]["output"]
    assert [(item["server_label"], item["name"]) for item in output[3:5]] == [("tandem", "f")] * 2
    assert output[-1]["content"][0]["text"] == "It is 2."
    assert events[-1]["response"]["usage"]["total_tokens"] == 5
    assert events[-1]["response"]["model"] == "served"


def test_arguments_that_are_not_an_object_are_replaced() -> None:
    """Clients parse them, and some fail."""
    call = ToolEvent({"type": "tool_call.started", "id": "a", "name": "f", "arguments": '{"x": '})
    assert play([call, finished("a"), ending()])[-1]["response"]["output"][1]["arguments"] == "{}"


def test_calls_with_the_same_id_are_items_of_their_own() -> None:
    events = play([started("a"), started("a"), finished("a"), finished("a"), ending()])
    check_response_events(events)
    assert kinds_of(events) == ["mcp_list_tools", "mcp_call", "mcp_call"]


def test_call_of_a_tool_server_is_one_item_that_ends_with_its_result() -> None:
    failed = finished("5", "timeout")
    events = play([started("2"), started("5"), finished("2"), failed, ending()])
    check_response_events(events)
    output = events[-1]["response"]["output"][1:]
    assert [(item["type"], item["server_label"], item["name"]) for item in output] == [
        ("mcp_call", "files", "read")
    ] * 2
    assert [(item["status"], item["output"]) for item in output] == [("completed", "1"), ("failed", None)]
    assert output[1]["error"]["content"] == [{"type": "text", "text": "1"}]


def test_call_to_be_approved_is_a_request() -> None:
    projection = ResponseProjection(request())
    history = [client_call(0, '{"path"', "files__rm"), client_call(0, ": 1}"), ending("tool_calls")]
    events = [event for item in history for event in projection.project(item)]
    check_response_events(events)
    [_, item] = events[-1]["response"]["output"]
    assert (item["type"], item["name"], item["arguments"]) == (
        "mcp_approval_request", "rm", '{"path": 1}',
    )  # fmt: skip


def test_line_breaks_before_a_call_are_dropped() -> None:
    first = [text("\n"), text("\n"), started("a"), finished("a")]
    events = play([*first, text("\n"), text("Hi"), ending()])
    assert kinds_of(events) == ["mcp_list_tools", "mcp_call", "message"]


def test_calls_for_the_client_may_arrive_alternately() -> None:
    events = play(
        [client_call(0, "{", "f"), client_call(1, "[", "g"), client_call(0, "}"), client_call(1, "]"),
         ending("tool_calls")]
    )  # fmt: skip
    check_response_events(events)
    output = events[-1]["response"]["output"][1:]
    assert [(item["call_id"], item["name"], item["arguments"]) for item in output] == [
        ("client-0", "f", "{}"), ("client-1", "g", "[]"),
    ]  # fmt: skip
    assert events[-1]["response"]["status"] == "completed"


def test_length_makes_the_last_item_incomplete() -> None:
    events = play([text("a"), started("a"), finished("a"), reasoning("Hm"), text("b"), ending("length")])
    response = events[-1]["response"]
    assert [item["status"] for item in response["output"][1:]] == [*["completed"] * 3, "incomplete"]
    assert (response["status"], response["incomplete_details"]) == (
        "incomplete", {"reason": "max_output_tokens"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Overloaded("Too many"), "rate_limit_exceeded"),
        (InvalidRequest("No"), "invalid_prompt"),
        (EngineBroke("Broke"), "server_error"),
    ],
)
def test_failure_has_one_of_openais_codes(error: ApiError, code: str) -> None:
    response = play([text("a")], error)[-1]["response"]
    assert response["error"]["code"] == code
    assert check(response) == "response"


def test_nothing_follows_the_last_event() -> None:
    projection = ResponseProjection(request())
    projection.project(ending())
    assert projection.last_events(EngineBroke("Broke"), "r") == b""


def test_log_probabilities_belong_to_their_text() -> None:
    entry = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    chunk = Chunk(CHUNK, {"content": "a"}, None, {"logprobs": {"content": [entry]}})
    events = play([chunk, ending()])
    check_response_events(events)
    [delta] = [event for event in events if event["type"] == "response.output_text.delta"]
    assert delta["logprobs"] == [entry]
    assert events[-1]["response"]["output"][1]["content"][0]["logprobs"] == [entry]


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": "x"}, {"prompt_tokens_details": []}])
def test_odd_usage_is_not_a_failure(usage: Json) -> None:
    projection = ResponseProjection(request())
    projection.project(Ending(CHUNK, "stop", usage))
    check(projection.answer)


def test_request_is_repeated() -> None:
    asked = request(
        metadata={"a": "b"}, instructions="Be brief", max_output_tokens=9, temperature=0.5,
        text={"format": {"type": "json_object"}}, tool_choice="auto", reasoning={"effort": "low"},
    )  # fmt: skip
    answer = ResponseProjection(asked).answer
    check(answer)
    assert answer["metadata"] == {"a": "b"}
    assert (answer["instructions"], answer["max_output_tokens"]) == ("Be brief", 9)
    assert answer["text"]["format"] == {"type": "json_object"}
    assert answer["store"] is False
