"""Answers are read in one place, so the relay and the tool loop agree on every status and error."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.live import Json, Live, events_of, text_of
from tests.support.scripted_engine import (
    CUT,
    NO_DONE,
    Reply,
    ScriptedEngine,
    after,
    body,
    chunk,
    counts,
    cut,
    raw_stream,
    stream,
    text,
    whole,
)

MATH = {"type": "function", "function": {"name": "calculate_math"}}
STREAM = chunk({"role": "assistant", "content": ""}) + chunk({"content": "Hello"}) + chunk({}, "stop")
USAGE = chunk(None, usage=counts(10, 5))
DONE = b"data: [DONE]\n\n"


def error_event(code: Any, prefix: bytes = b"data: ") -> bytes:
    error = {"message": "boom", "type": "BadRequestError", "param": None, "code": code}
    return prefix + json.dumps({"error": error}).encode() + b"\n\n"


class Outcome(NamedTuple):
    """What a client sees of an answer."""

    status: int
    error: Json | None
    text: str
    complete: bool


STREAMS: dict[str, Reply] = {
    "complete": raw_stream(STREAM + USAGE + DONE),
    "error 400 at once": raw_stream(error_event(400) + DONE),
    "error 400 after text": raw_stream(STREAM + error_event(400) + DONE),
    "error 429 after text": raw_stream(STREAM + error_event(429) + DONE),
    "error 401, the orchestrator's key": raw_stream(error_event(401) + DONE),
    "error 500 at once": raw_stream(error_event(500) + DONE),
    "error 500 after text": raw_stream(STREAM + error_event(500) + DONE),
    "error without a code": raw_stream(STREAM + b'data: {"error": "boom"}\n\n' + DONE),
    "error without a space": raw_stream(STREAM + error_event(400, b"data:") + DONE),
    "error in an event with a name": raw_stream(STREAM + error_event(400, b"event: error\ndata: ") + DONE),
    "error on two lines": raw_stream(STREAM + b'data: {"error":\ndata: "boom"}\n\n' + DONE),
    "error after the end": raw_stream(STREAM + DONE + error_event(400)),
    "broken JSON with usage": raw_stream(STREAM + b'data: {"usage": {oops}\n\n' + DONE),
    "broken JSON with usage at once": raw_stream(b'data: {"usage": {oops}\n\n' + DONE),
    "broken JSON with an error": raw_stream(STREAM + b'data: {"error": {oops}\n\n' + DONE),
    "broken JSON": raw_stream(STREAM + b"data: {oops}\n\n" + DONE),
    "JSON that ends early": raw_stream(STREAM + STREAM[:-5] + b"\n\n" + DONE),
    "a page": raw_stream(b"<html>\n\n" + STREAM + DONE),
    "a damaged field name": raw_stream(STREAM + STREAM[1:] + DONE),
    "a list with usage": raw_stream(STREAM + b'data: ["usage"]\n\n' + DONE),
    "a comment after the end": raw_stream(STREAM + DONE + b": bye\n\n"),
    "an empty line after the end": raw_stream(STREAM + DONE + b"\n"),
    "empty lines after the end": raw_stream(STREAM + DONE + b"\n\n\n"),
    "a comment within": raw_stream(STREAM + b": ping\n\n" + USAGE + DONE),
    "half an event after the end": raw_stream(STREAM + DONE + b'data: {"half'),
    "half an event": raw_stream(STREAM + b'data: {"half'),
    "an end without a space": raw_stream(STREAM + b"data:[DONE]\n\n"),
    "lines that end in CRLF": raw_stream((STREAM + DONE).replace(b"\n", b"\r\n")),
    "no end": stream(*text("Hello"), NO_DONE),
    "nothing": raw_stream(b": nothing\n\n"),
    "a break": stream(*text("Hello"), CUT),
    "text that names the end": raw_stream(chunk({"content": "data: [DONE]"}) + chunk({}, "stop") + DONE),
    "a whole answer": whole("Hello"),
    "status 400": body({"error": {"message": "too long", "type": "x", "param": "p", "code": 400}}, 400),
    "status 401": body({"error": "Unauthorized"}, 401),
    "status 500": body(b"<html>", 500),
}
WHOLES: dict[str, Reply] = {
    "complete": whole("Hello"),
    "an error with status 200": body({"error": {"message": "boom", "type": "x", "param": None, "code": 400}}),
    "a failure with status 200": body({"error": {"message": "boom", "code": 500}}),
    "not JSON": body(b"{oops"),
    "not JSON, with usage": body(b'{"usage": {oops}'),
    "a list": body([{"usage": 1}]),
    "a number": body(b"1"),
    "nothing": body(b""),
    "status 400": body({"error": {"message": "too long", "type": "x", "param": "p", "code": 400}}, 400),
    "status 400 in the framework's shape": body({"detail": "odd"}, 418),
    "status 404": body({"detail": "Not Found"}, 404),
    "status 500": body(b"<html>", 500),
    "status 503": body({"error": {"message": "queue is full"}}, 503),
    "a break": cut(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{"),
}


def outcome(answer: httpx.Response) -> Outcome:
    if not answer.headers["content-type"].startswith("text/event-stream"):
        value = answer.json()
        message = value["choices"][0]["message"] if "choices" in value else {}
        return Outcome(
            answer.status_code, value.get("error"), message.get("content") or "", "choices" in value
        )
    assert "\n:" not in answer.text, "a comment of the engine's"
    events = events_of(answer.text)
    errors = [event["error"] for event in events if isinstance(event, dict) and "error" in event]
    assert len(errors) + events.count("[DONE]") == 1, events
    return Outcome(answer.status_code, errors[0] if errors else None, text_of(events), "[DONE]" in events)


async def ask_both(server: Live, engine: ScriptedEngine, reply: Reply, **fields: Any) -> list[Outcome]:
    engine.otherwise = reply
    relayed = await server.chat(**fields)
    looped = await server.chat(tools=[MATH], **fields)
    return [outcome(relayed), outcome(looped)]


@pytest.mark.parametrize("name", STREAMS)
async def test_relay_and_loop_agree_on_a_stream(server: Live, engine: ScriptedEngine, name: str) -> None:
    relayed, looped = await ask_both(server, engine, STREAMS[name], stream=True)
    if name == "a whole answer":  # the relay passes it on unchanged, the loop turns it into a stream
        assert (relayed.status, relayed.error) == (looped.status, looped.error)
    else:
        assert relayed == looped


@pytest.mark.parametrize("name", WHOLES)
async def test_relay_and_loop_agree_on_a_whole_answer(
    server: Live, engine: ScriptedEngine, name: str
) -> None:
    relayed, looped = await ask_both(server, engine, WHOLES[name])
    assert relayed == looped


EVENTS = st.sampled_from(
    [
        chunk({"content": "Hello"}), chunk({}, "stop"), USAGE, DONE, b": ping\n\n", b"\n",
        error_event(400), error_event(500), error_event(400, b"data:"), b'data: {"usage": oops}\n\n',
    ]
)  # fmt: skip


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    events=st.lists(EVENTS, max_size=6),
    rest=st.sampled_from([b"", b'data: {"half']),
    sizes=st.lists(st.integers(1, 120), max_size=10),
)
async def test_relay_and_loop_agree_on_any_events(
    server: Live, engine: ScriptedEngine, events: list[bytes], rest: bytes, sizes: list[int]
) -> None:
    data = STREAM + b"".join(events) + rest
    relayed, looped = await ask_both(server, engine, raw_stream(data, sizes), stream=True)
    assert (relayed.status, relayed.error, relayed.complete) == (looped.status, looped.error, looped.complete)


async def test_error_400_in_a_stream_is_reported_as_an_error_of_the_caller(
    server: Live, engine: ScriptedEngine
) -> None:
    for outcome in await ask_both(server, engine, raw_stream(error_event(400) + DONE), stream=True):
        assert outcome.status == 400
        assert outcome.error == {"message": "boom", "type": "BadRequestError", "param": None, "code": "400"}


async def test_broken_json_is_reported_as_a_failure_of_the_engine(
    server: Live, engine: ScriptedEngine
) -> None:
    for reply in (raw_stream(b'data: {"usage": {oops}\n\n' + DONE), body(b'{"usage": {oops}')):
        for outcome in await ask_both(server, engine, reply, stream=True):
            assert outcome.status == 502
            assert outcome.error
            assert outcome.error["code"] == "engine_failed"


@pytest.mark.parametrize("rest", [b"", b": bye\n\n", b"\n", b"\n\n", b'data: {"half'])
async def test_answer_is_complete_after_done_whatever_follows(
    server: Live, engine: ScriptedEngine, rest: bytes
) -> None:
    for outcome in await ask_both(server, engine, raw_stream(STREAM + DONE + rest), stream=True):
        assert outcome == Outcome(200, None, "Hello", True)


async def test_engine_that_never_ends_the_body_does_not_delay_the_answer(
    server: Live, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.engine.answer._DRAIN_SECONDS", 0.05)
    engine.play(stream(*text("Hello"), chunk({}, "stop"), DONE, asyncio.Event()))
    assert outcome(await server.chat(stream=True)) == Outcome(200, None, "Hello", True)
    await asyncio.wait_for(engine.aborted.wait(), 5)


async def test_requests_are_counted_as_in_flight_until_the_answer_is_closed(
    server: Live, engine: ScriptedEngine
) -> None:
    busy = f'engine_requests_in_flight{{engine="127.0.0.1:{engine.port}"}}'
    for reply in (whole("ok"), body(b"{oops"), body(b"", 500), cut(), stream(*text("x"), CUT)):
        held = asyncio.Event()
        engine.otherwise = after(held, reply)
        engine.arrived.clear()
        asking = asyncio.create_task(server.chat(stream=True))
        await engine.arrived.wait()
        assert f"{busy} 1.0" in await server.metrics()
        held.set()
        await asking
        assert f"{busy} 0.0" in await server.metrics()


async def test_failed_response_object_and_binary_body_are_passed_on_to_the_client(
    server: Live, engine: ScriptedEngine
) -> None:
    failed = {"object": "response", "status": "failed", "error": {"code": "x", "message": "boom"}}
    engine.play(body(failed), body(b"\x00\x01", content_type="application/octet-stream"))
    answer = await server.http.post("/v1/responses", json={"input": "x"})
    assert (answer.status_code, answer.json()) == (200, failed)
    assert (await server.http.post("/v1/embeddings", json={"input": "x"})).content == b"\x00\x01"
