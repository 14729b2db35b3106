"""Compares the stand-in with recordings of vLLM 0.32.0: keys, types, order, errors, headers.

wire/errors.json, answers.json, flags.json and streams.json hold named requests with their responses;
wire/<name>.sse holds the body of a streamed response.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import TOOL_FLAGS, Standin, Start

WIRE = Path(__file__).parent / "wire"
ADDED_BY_THE_STANDIN = {"notice"}


def recorded(group: str) -> dict[str, Any]:
    exchanges: dict[str, Any] = json.loads((WIRE / f"{group}.json").read_text())
    return exchanges


ERRORS, ANSWERS, FLAGS, STREAMS = map(recorded, ("errors", "answers", "flags", "streams"))


async def replay(standin: Standin, request: dict[str, Any]) -> httpx.Response:
    body = request["body"]
    content = body if isinstance(body, str) or body is None else json.dumps(body)
    return await standin.http.request(
        request["method"], request["path"], content=content, headers=request["headers"]
    )


def shape(value: Any) -> Any:
    """Returns keys in order and types of values, at every depth; for a list, the shapes that occur in it."""
    if isinstance(value, dict):
        return {
            "{}": [(key, shape(inner)) for key, inner in value.items() if key not in ADDED_BY_THE_STANDIN]
        }
    if isinstance(value, list):
        return sorted({repr(shape(item)) for item in value})
    return type(value).__name__


def finish_reasons(body: dict[str, Any]) -> list[Any]:
    return [(choice["finish_reason"], choice["stop_reason"]) for choice in body.get("choices", ())]


def check_headers(response: httpx.Response, expected: dict[str, str]) -> None:
    ignored = {"date", "server", "content-length", "x-request-id"}
    assert {k: v for k, v in response.headers.items() if k not in ignored} == {
        k: v for k, v in expected.items() if k not in ignored
    }
    assert ("x-request-id" in response.headers) == ("x-request-id" in expected)


@pytest.mark.parametrize("name", ERRORS)
async def test_errors_are_identical(name: str, standin: Standin) -> None:
    expected = ERRORS[name]["response"]
    response = await replay(standin, ERRORS[name]["request"])
    assert (response.status_code, response.json()) == (expected["status"], expected["body"])
    check_headers(response, expected["headers"])


@pytest.mark.parametrize("name", ANSWERS)
async def test_answers_have_the_same_shape(name: str, standin: Standin) -> None:
    expected = ANSWERS[name]["response"]
    response = await replay(standin, ANSWERS[name]["request"])
    assert response.status_code == expected["status"]
    check_headers(response, expected["headers"])
    if expected["body"] is None:
        assert response.content == b""
        return
    assert shape(response.json()) == shape(expected["body"])
    if name != "chat-stop":  # it stops at a letter, and the texts differ
        assert finish_reasons(response.json()) == finish_reasons(expected["body"])


@pytest.mark.parametrize("name", ["tools-auto", "tools-required", "tools-named", "tools-two-cities-parallel"])
async def test_calls_are_the_same(name: str, standin: Standin) -> None:
    def calls(body: dict[str, Any]) -> Any:
        message = body["choices"][0]["message"]
        return message["content"], [call["function"] for call in message["tool_calls"]]

    response = await replay(standin, ANSWERS[name]["request"])
    assert calls(response.json()) == calls(ANSWERS[name]["response"]["body"])


@pytest.mark.parametrize("name", FLAGS)
async def test_flags(name: str, start: Start) -> None:
    standin = await start(
        *TOOL_FLAGS,
        "--max-model-len=1024",
        "--api-key=sekret",
        "--enable-request-id-headers",
        "--enable-prompt-tokens-details",
        "--exclude-tools-when-tool-choice-none",
    )
    expected = FLAGS[name]["response"]
    response = await replay(standin, FLAGS[name]["request"])
    assert response.status_code == expected["status"]
    check_headers(response, expected["headers"])
    if expected["body"] is not None:
        assert shape(response.json()) == shape(expected["body"])
    if name == "request-id-echo":
        assert response.headers["x-request-id"] == "my-req-1"
        assert response.json()["id"] == "chatcmpl-my-req-1"


def events(text: str) -> list[tuple[str, Any]]:
    """Returns the events of a stream with their names; `[DONE]` stays text."""
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        *name, data = block.split("\n")
        payload = data.removeprefix("data: ")
        found.append(("".join(name), payload if payload == "[DONE]" else json.loads(payload)))
    return found


def order(stream: list[tuple[str, Any]]) -> list[Any]:
    """Returns the sequence of shapes, names and finish reasons, with repetitions collapsed into one."""
    kinds: list[Any] = []
    for name, event in stream:
        reasons = [c["finish_reason"] for c in event.get("choices", ())] if isinstance(event, dict) else event
        kind = (name, shape(event), reasons)
        if not kinds or kinds[-1] != kind:
            kinds.append(kind)
    return kinds


@pytest.mark.parametrize("name", STREAMS)
async def test_streams_have_the_same_event_order(name: str, standin: Standin) -> None:
    expected = STREAMS[name]["response"]
    response = await replay(standin, STREAMS[name]["request"])
    assert response.status_code == expected["status"]
    check_headers(response, expected["headers"])
    recording = events((WIRE / f"{name}.sse").read_text())
    assert order(events(response.text)) == order(recording)
    numbers = [event["sequence_number"] for _, event in events(response.text) if "sequence_number" in event]
    assert numbers == list(range(len(numbers)))


async def test_two_choices_stream_side_by_side(standin: Standin) -> None:
    request = {**ANSWERS["chat-n2"]["request"]}
    request["body"] = request["body"] | {"stream": True}
    response = await replay(standin, request)
    indexes = [e["choices"][0]["index"] for _, e in events(response.text) if e != "[DONE]"]
    assert indexes == [0, 1] * (len(indexes) // 2)
    assert len(indexes) == 2 + 2 * request["body"]["max_tokens"]
