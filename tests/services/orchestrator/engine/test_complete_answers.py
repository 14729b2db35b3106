"""No incomplete answer of an engine looks complete to a client, on any relayed route."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.live import Live
from tests.support.scripted_engine import Reply, ScriptedEngine, body, chunk, counts, cut, raw_stream, whole

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EMBEDDINGS, RESPONSES = "/v1/embeddings", "/v1/responses"
ROUTES = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES)
MATH = {"type": "function", "function": {"name": "calculate_math"}}
DONE = b"data: [DONE]\n\n"


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def completion(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "model": "m", "choices": [choice]}).encode() + b"\n\n"


ENDED = {"response": {"object": "response", "model": "m", "usage": {"input_tokens": 3, "output_tokens": 2}}}
CHAT_EVENTS = chunk({"role": "assistant", "content": ""}) + chunk({"content": "Hé"}) + chunk({}, "stop")
STREAMS = {
    CHAT: CHAT_EVENTS + chunk(None, usage=counts(3, 2)) + DONE,
    COMPLETIONS: completion("a") + completion("b") + completion("", "stop") + DONE,
    EMBEDDINGS: b'data: {"data": []}\n\n' + DONE,
    RESPONSES: event("response.created") + event("response.output_text.delta", delta="a")
    + event("response.completed", **ENDED),
}  # fmt: skip


async def ask(server: Live, route: str, *, stream: bool, **fields: Any) -> httpx.Response:
    request = {"messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x", **fields}
    return await server.http.post(route, json={**request, "stream": stream})


def ends_of(answer: httpx.Response) -> tuple[int, int]:
    """Returns the number of errors and of proper ends in a stream."""
    events = [
        json.loads(line[5:])
        for line in answer.text.split("\n")
        if line.startswith("data:") and "[DONE]" not in line
    ]
    ends = ("response.completed", "response.failed", "response.incomplete", "error")
    proper = sum(event.get("type") in ends for event in events) + answer.text.count("data: [DONE]")
    return sum("error" in event for event in events), proper


def looks_complete(answer: httpx.Response) -> bool:
    if answer.status_code != 200:
        return False
    errors, proper = ends_of(answer)
    return proper == 1 and errors == 0


@pytest.mark.parametrize("route", ROUTES)
async def test_complete_stream_is_relayed(server: Live, engine: ScriptedEngine, route: str) -> None:
    engine.play(raw_stream(STREAMS[route]))
    fields = {"stream_options": {"include_usage": True}} if route in (CHAT, COMPLETIONS) else {}
    answer = await ask(server, route, stream=True, **fields)
    assert (answer.status_code, answer.content) == (200, STREAMS[route])
    assert looks_complete(answer)


@pytest.mark.parametrize("route", ROUTES)
async def test_stream_without_its_end_is_an_error(server: Live, engine: ScriptedEngine, route: str) -> None:
    complete = STREAMS[route]
    end = complete.rfind(b"\n\n", 0, -2) + 2
    foreign = DONE if route == RESPONSES else event("response.completed", **ENDED)
    for sent in (b"", b"\n\n", b": ping\n\n", complete[:end], complete[:end] + foreign, complete[:-1]):
        engine.play(raw_stream(sent))
        answer = await ask(server, route, stream=True)
        if answer.status_code == 200:
            assert ends_of(answer)[0] == 1, sent
        else:
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_failed"), sent


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(route=st.sampled_from(ROUTES), at=st.integers(0, 2000), sizes=st.lists(st.integers(1, 80), max_size=8))
async def test_stream_that_ends_anywhere_is_complete_only_at_its_end(
    server: Live, engine: ScriptedEngine, route: str, at: int, sizes: list[int]
) -> None:
    complete = STREAMS[route]
    at = min(at, len(complete))
    engine.play(raw_stream(complete[:at], sizes))
    assert looks_complete(await ask(server, route, stream=True)) == (at == len(complete))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "bad",
    [
        b"data: {oops}\n\n",
        b"data: 1\n\n",
        b"data: {\n\n",
        b"<html>\n\n",
        b"ata: {}\n\n",
        b'data: {"a":"\xff"}\n\n',
    ],
)
async def test_event_that_is_not_json_is_an_error_after_the_events_before_it(
    server: Live, engine: ScriptedEngine, route: str, bad: bytes
) -> None:
    complete = STREAMS[route]
    first = complete[: complete.index(b"\n\n") + 2]
    engine.play(raw_stream(first + bad + b"\n\n" + complete[len(first) :]))
    answer = await ask(server, route, stream=True)
    assert answer.content.startswith(first)
    assert ends_of(answer) == (1, 0)
    assert b"oops" not in answer.content


@pytest.mark.parametrize("kind", ["response.completed", "response.failed", "response.incomplete", "error"])
async def test_each_end_of_a_responses_stream_is_recognized(
    server: Live, engine: ScriptedEngine, kind: str
) -> None:
    fields = {"code": "x", "message": "boom", "param": None} if kind == "error" else ENDED
    complete = event("response.created") + event(kind, **fields)
    engine.play(raw_stream(complete + b": bye\n\n"), raw_stream(complete + DONE))
    for _ in range(2):
        answer = await ask(server, RESPONSES, stream=True)
        assert (answer.status_code, answer.content) == (200, complete)


async def test_text_that_names_the_end_of_a_response_is_not_the_end(
    server: Live, engine: ScriptedEngine
) -> None:
    odd = event("response.output_text.delta", delta='{"type": "response.completed"}', sequence_number=1)
    engine.play(raw_stream(odd))
    assert ends_of(await ask(server, RESPONSES, stream=True)) == (1, 0)


NOT_JSON: list[Reply] = [
    body(b""), body(b"<html>", content_type="text/html"), body(b"{oops"), body(b"1"), body([]),
    body(b"\x00\x01", content_type="application/octet-stream; x=y"), body(b"", 204), body(b"x", 299),
]  # fmt: skip


@pytest.mark.parametrize("route", [CHAT, COMPLETIONS, RESPONSES])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reply", NOT_JSON)
async def test_whole_answer_that_is_not_json_is_an_error(
    server: Live, engine: ScriptedEngine, route: str, reply: Reply, stream: bool
) -> None:
    engine.otherwise = reply
    answer = await ask(server, route, stream=stream)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "engine_failed"


async def test_binary_embeddings_without_a_length_are_an_error(server: Live, engine: ScriptedEngine) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n"

    async def until_close(exchange: Any) -> None:
        await exchange.write(head + b"\r\n\x00\x01")
        exchange.writer.close()

    engine.play(body(b"\x00\x01", content_type="application/octet-stream"), until_close)
    assert (await ask(server, EMBEDDINGS, stream=False)).content == b"\x00\x01"
    assert (await ask(server, EMBEDDINGS, stream=False)).status_code == 502


@pytest.mark.parametrize("tools", [[], [MATH]])
async def test_two_answers_to_one_request_are_an_error(
    server: Live, engine: ScriptedEngine, tools: list[Any]
) -> None:
    async def twice(exchange: Any) -> None:
        data = json.dumps({"choices": [{"index": 0, "message": {"content": "x"}}]}).encode()
        await exchange.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data) * 2)

    engine.otherwise = twice
    answer = await ask(server, CHAT, stream=False, tools=tools)
    assert answer.status_code == 502
    assert "two answers" in answer.json()["error"]["message"]
    engine.otherwise = whole("one")
    answer = await ask(server, CHAT, stream=False, tools=tools)
    assert answer.json()["choices"][0]["message"]["content"] == "one"


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("stream", [False, True])
async def test_switch_of_protocols_is_reported_with_its_reason(
    server: Live, engine: ScriptedEngine, route: str, stream: bool
) -> None:
    engine.otherwise = cut(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc"
    )
    answer = await ask(server, route, stream=stream)
    assert answer.status_code == 502
    assert "another protocol" in answer.json()["error"]["message"]
