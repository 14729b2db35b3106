"""Every fault that the field `standin` of a request can ask for."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import httpx
import pytest

from .conftest import Standin
from .test_standin_chat import TOOLS

CALL = "What is the weather in San Francisco?"
ANSWER = "Hello"


def body(question: str, fault: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"model": "tiny", "messages": messages, "tools": TOOLS, "standin": fault, **options}


async def whole(
    http: httpx.AsyncClient, question: str, fault: dict[str, Any], **options: Any
) -> dict[str, Any]:
    response = await http.post("/v1/chat/completions", json=body(question, fault, **options))
    assert response.status_code == 200, response.text
    choice: dict[str, Any] = response.json()["choices"][0]
    return choice


async def streamed(
    http: httpx.AsyncClient, question: str, fault: dict[str, Any], **options: Any
) -> tuple[list[Any], Exception | None]:
    """Returns the data of the events received, and the error that broke the stream, if any."""
    lines: list[str] = []
    broken: Exception | None = None
    asked = body(question, fault, stream=True, **options)
    try:
        async with http.stream("POST", "/v1/chat/completions", json=asked) as response:
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            lines = [line async for line in collect(response, lines)]
    except httpx.RemoteProtocolError as error:
        broken = error
    data = [line.removeprefix("data: ") for line in lines if line]
    return [text if text == "[DONE]" else json.loads(text) for text in data], broken


async def collect(response: httpx.Response, into: list[str]) -> Any:
    async for line in response.aiter_lines():
        into.append(line)
        yield line


def arguments(events: list[Any]) -> str:
    """Returns the arguments of the first call in a stream."""
    deltas = [e["choices"][0]["delta"] for e in events if e != "[DONE]" and e["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    return "".join(call["function"].get("arguments", "") for call in calls)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"delay": 1}, "`standin` has no key 'delay'; valid keys: when, delay_first,"),
        ({"cut_after": -1}, "`standin.cut_after` must be a whole number of at least 0."),
        ({"cut_after": True}, "`standin.cut_after` must be a whole number of at least 0."),
        ({"chunks": 10**7}, "`standin.chunks` must be a whole number from 0 to 200000."),
        ({"status": 200}, "`standin.status` must be an error status, e.g. 500 or 503."),
        ({"delay_first": "1"}, "`standin.delay_first` must be a number of seconds from 0 to 3600."),
        ({"delay_token": -1}, "`standin.delay_token` must be a number of seconds from 0 to 3600."),
        ({"when": "later"}, "`standin.when` must be 'call', 'answer' or 'always'."),
        ({"malformed_arguments": 1}, "`standin.malformed_arguments` must be true or false."),
        ({"call_as_text": "xml"}, "`standin.call_as_text` must be true, false or 'bare'."),
        ([], "`standin` must be an object."),
    ],
)
async def test_fault_field_is_validated(http: httpx.AsyncClient, fault: Any, message: str) -> None:
    response = await http.post("/v1/chat/completions", json=body(CALL, fault))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["message"].startswith(message)
    assert error["param"].startswith("standin")


@pytest.mark.parametrize("stream", [False, True])
async def test_delay_first(http: httpx.AsyncClient, stream: bool) -> None:
    begun = time.monotonic()
    await http.post("/v1/chat/completions", json=body(ANSWER, {"delay_first": 0.2}, stream=stream))
    assert time.monotonic() - begun >= 0.2


@pytest.mark.parametrize("stream", [False, True])
async def test_delay_token(http: httpx.AsyncClient, stream: bool) -> None:
    begun = time.monotonic()
    fault = {"delay_token": 0.03, "chunks": 5}
    await http.post("/v1/chat/completions", json=body(ANSWER, fault, stream=stream))
    assert time.monotonic() - begun >= 5 * 0.03


async def test_delayed_tokens_come_one_by_one(http: httpx.AsyncClient) -> None:
    asked = body(ANSWER, {"delay_token": 0.05, "chunks": 6}, stream=True)
    arrived = []
    async with http.stream("POST", "/v1/chat/completions", json=asked) as response:
        async for line in response.aiter_lines():
            if line:
                arrived.append(time.monotonic())
    assert arrived[-1] - arrived[0] >= 6 * 0.05 - 0.01
    assert sum(later - earlier >= 0.03 for earlier, later in pairwise(arrived)) >= 6


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "BadRequestError"),
        (429, "Too Many Requests"),
        (500, "InternalServerError"),
        (503, "Service Unavailable"),
    ],
)
async def test_status(http: httpx.AsyncClient, status: int, kind: str, stream: bool) -> None:
    response = await http.post("/v1/chat/completions", json=body(CALL, {"status": status}, stream=stream))
    error = response.json()["error"]
    assert response.status_code == status
    assert (error["type"], error["param"], error["code"]) == (kind, None, status)


@pytest.mark.parametrize("stream", [False, True])
async def test_cut_before_any_byte(http: httpx.AsyncClient, stream: bool) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        await http.post("/v1/chat/completions", json=body(CALL, {"cut_after": 0}, stream=stream))


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_cut_within_a_stream(http: httpx.AsyncClient, standin: Standin, count: int) -> None:
    events, broken = await streamed(http, CALL, {"cut_after": count})
    assert len(events) == count
    assert broken is not None
    assert await standin.metric("request_success_total", finished_reason="abort") == 1


async def test_cut_within_a_whole_body(http: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        await http.post("/v1/chat/completions", json=body(CALL, {"cut_after": 3}))


async def test_cut_beyond_the_end_has_no_effect(http: httpx.AsyncClient) -> None:
    events, broken = await streamed(http, CALL, {"cut_after": 10_000})
    assert broken is None
    assert events[-1] == "[DONE]"


@pytest.mark.parametrize("count", [0, 1, 4])
async def test_error_event(http: httpx.AsyncClient, standin: Standin, count: int) -> None:
    events, broken = await streamed(http, CALL, {"error_event_after": count})
    assert broken is None
    error = {"message": "Internal server error", "type": "InternalServerError", "param": None, "code": 500}
    assert events[count:] == [{"error": error}, "[DONE]"]
    assert await standin.metric("request_success_total", finished_reason="error") == 1


async def test_error_event_without_a_stream_becomes_a_status(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/chat/completions", json=body(CALL, {"error_event_after": 1}))
    assert (response.status_code, response.json()["error"]["type"]) == (500, "InternalServerError")


async def test_chunks(http: httpx.AsyncClient) -> None:
    events, _ = await streamed(http, ANSWER, {"chunks": 3000}, stream_options={"include_usage": True})
    contents = [e["choices"][0]["delta"].get("content") for e in events[1:-3]]
    assert len(contents) == 3000
    assert all(contents)
    assert events[-2]["usage"]["completion_tokens"] == 3001
    choice = await whole(http, ANSWER, {"chunks": 3000}, max_tokens=10)
    assert choice["finish_reason"] == "length"


async def test_malformed_arguments(http: httpx.AsyncClient) -> None:
    (call,) = (await whole(http, CALL, {"malformed_arguments": True}))["message"]["tool_calls"]
    events, _ = await streamed(http, CALL, {"malformed_arguments": True})
    for text in (call["function"]["arguments"], arguments(events)):
        assert "San Francisco" in text
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)


async def test_missing_arguments(http: httpx.AsyncClient) -> None:
    (call,) = (await whole(http, CALL, {"missing_arguments": True}))["message"]["tool_calls"]
    assert call["function"] == {"name": "get_current_weather"}
    events, _ = await streamed(http, CALL, {"missing_arguments": True})
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    named = [delta["tool_calls"] for delta in deltas if "tool_calls" in delta]
    assert [call["function"] for (call,) in named] == [{"name": "get_current_weather"}]


async def test_double_encoded_arguments(http: httpx.AsyncClient) -> None:
    (call,) = (await whole(http, CALL, {"double_encoded_arguments": True}))["message"]["tool_calls"]
    events, _ = await streamed(http, CALL, {"double_encoded_arguments": True})
    for text in (call["function"]["arguments"], arguments(events)):
        assert json.loads(json.loads(text)) == {"location": "San Francisco"}


async def test_empty_tool_calls(http: httpx.AsyncClient) -> None:
    choice = await whole(http, CALL, {"empty_tool_calls": True})
    assert (choice["finish_reason"], choice["message"]["tool_calls"]) == ("tool_calls", [])
    events, _ = await streamed(http, CALL, {"empty_tool_calls": True})
    assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert arguments(events) == ""


async def test_empty_tool_calls_beside_the_call_as_text(http: httpx.AsyncClient) -> None:
    """As recorded from vLLM when its parser failed on a call: the markup is the content."""
    choice = await whole(http, CALL, {"empty_tool_calls": True, "call_as_text": True})
    assert choice["finish_reason"] == "tool_calls"
    assert "tool_calls" not in choice["message"]
    assert choice["message"]["content"].startswith('<tool_call>\n{"name": "get_current_weather"')


async def test_call_as_text(http: httpx.AsyncClient) -> None:
    call = '{"name": "get_current_weather", "arguments": {"location": "San Francisco"}}'
    expected = f"<tool_call>\n{call}\n</tool_call>"
    choice = await whole(http, CALL, {"call_as_text": True})
    assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", expected)
    events, _ = await streamed(http, CALL, {"call_as_text": True})
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1]) == expected


async def test_call_as_bare_text(http: httpx.AsyncClient) -> None:
    choice = await whole(http, CALL, {"call_as_text": "bare"})
    assert json.loads(choice["message"]["content"]) == {
        "tool": "get_current_weather",
        "arguments": {"location": "San Francisco"},
    }


@pytest.mark.parametrize(
    ("when", "call", "answer"), [("call", 503, 200), ("answer", 200, 503), ("always", 503, 503)]
)
async def test_when(http: httpx.AsyncClient, when: str, call: int, answer: int) -> None:
    fault = {"status": 503, "when": when}
    statuses = [
        (await http.post("/v1/chat/completions", json=body(question, fault))).status_code
        for question in (CALL, ANSWER)
    ]
    assert statuses == [call, answer]


async def test_call_faults_do_not_affect_answers(http: httpx.AsyncClient) -> None:
    everything = {"malformed_arguments": True, "empty_tool_calls": True, "call_as_text": True}
    choice = await whole(http, ANSWER, everything)
    assert choice["finish_reason"] == "stop"
    assert "stand-in" in choice["message"]["content"]
