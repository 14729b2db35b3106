"""The plain relay: it passes on the same bytes and counts them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.live import Live
from tests.support.scripted_engine import (
    CUT,
    NO_DONE,
    ScriptedEngine,
    body,
    chunk,
    counts,
    raw_stream,
    stream,
    text,
    whole,
)

STREAM = b"".join(chunk(delta) for delta in text("Hel", "lo")) + chunk({}, "stop")
DONE = b"data: [DONE]\n\n"
USAGE = chunk(None, usage=counts(10, 5))


async def test_whole_answer_is_relayed_byte_for_byte(server: Live, engine: ScriptedEngine) -> None:
    sent = b'{ "id":"x",  "object":"chat.completion","model":"scripted","unknown": [1.50], "choices":[]}'
    engine.play(body(sent))
    answer = await server.chat(temperature=0.25, unknown_field={"a": 1})
    assert answer.content == sent
    assert answer.headers["content-type"] == "application/json"
    assert engine.requests[0].json["unknown_field"] == {"a": 1}


async def test_request_body_is_relayed_unchanged(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("ok"))
    sent = b'{"messages" : [{"role":"user","content":"\\u00e9"}], "seed": 12345678901234567890123}'
    await server.http.post("/v1/chat/completions", content=sent)
    assert engine.requests[0].body == sent


async def test_stream_is_relayed_without_usage_that_was_not_requested(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.play(raw_stream(STREAM + USAGE + DONE))
    answer = await server.chat(stream=True)
    assert answer.content == STREAM + DONE
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert engine.requests[0].json["stream_options"] == {"include_usage": True}
    assert 'tokens_total{key_name="-",kind="prompt",model="scripted"} 10.0' in await server.metrics()


async def test_requested_usage_is_relayed(server: Live, engine: ScriptedEngine) -> None:
    engine.play(raw_stream(STREAM + USAGE + DONE))
    answer = await server.chat(stream=True, stream_options={"include_usage": True})
    assert answer.content == STREAM + USAGE + DONE


async def test_options_without_usage_are_completed(server: Live, engine: ScriptedEngine) -> None:
    engine.play(raw_stream(STREAM + USAGE + DONE))
    options = {"include_usage": False, "continuous_usage_stats": True, "other": 1}
    assert (await server.chat(stream=True, stream_options=options)).content == STREAM + DONE
    assert engine.requests[0].json["stream_options"] == {"include_usage": True, "other": 1}


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(sizes=st.lists(st.integers(1, 120), max_size=30))
async def test_relayed_bytes_do_not_depend_on_how_the_stream_is_split(
    server: Live, engine: ScriptedEngine, sizes: list[int]
) -> None:
    engine.play(raw_stream(STREAM + USAGE + DONE, sizes))
    assert (await server.chat(stream=True)).content == STREAM + DONE


@pytest.mark.parametrize("pieces", [(*text("It "), CUT), (*text("It "), NO_DONE)])
async def test_broken_stream_ends_with_an_error_instead_of_done(
    server: Live, engine: ScriptedEngine, pieces: tuple[Any, ...]
) -> None:
    engine.play(stream(*pieces))
    events = await server.chat_events()
    assert isinstance(events[-1], dict)
    assert events[-1]["error"]["code"] == "engine_failed"
    assert "[DONE]" not in events


async def test_incomplete_event_at_the_end_is_not_relayed(server: Live, engine: ScriptedEngine) -> None:
    engine.play(raw_stream(STREAM + b'data: {"half'))
    content = (await server.chat(stream=True)).content
    assert b"half" not in content
    assert b'"error"' in content


async def test_error_event_from_the_engine_is_relayed_after_earlier_events(
    server: Live, engine: ScriptedEngine
) -> None:
    error = b'data: {"error": {"message": "boom", "type": "InternalServerError", "code": 500}}\n\n'
    engine.play(raw_stream(STREAM + error + DONE))
    content = (await server.chat(stream=True)).content
    assert content.startswith(STREAM)
    assert b"boom" in content
    assert DONE not in content


async def test_text_that_mentions_usage_and_errors_is_relayed(server: Live, engine: ScriptedEngine) -> None:
    odd = chunk({"content": '"usage": {"error": 1} data: {"error"'})
    engine.play(raw_stream(odd + STREAM + DONE))
    assert (await server.chat(stream=True)).content == odd + STREAM + DONE


@pytest.mark.parametrize("route", ["/v1/completions", "/v1/embeddings", "/v1/responses"])
async def test_other_routes_are_relayed(server: Live, engine: ScriptedEngine, route: str) -> None:
    engine.play(body({"object": "list", "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}}))
    answer = await server.http.post(route, json={"input": "x", "prompt": "x"})
    assert answer.json()["object"] == "list"
    assert engine.requests[0].path == route
    assert engine.requests[0].json == {"input": "x", "prompt": "x"}


async def test_responses_stream_is_relayed_and_counted(server: Live, engine: ScriptedEngine) -> None:
    end = {
        "type": "response.completed",
        "response": {"model": "m", "usage": {"input_tokens": 3, "output_tokens": 2}},
    }
    sent = (
        b"event: response.created\ndata: {}\n\nevent: response.completed\ndata: "
        + json.dumps(end).encode()
        + b"\n\n"
    )
    engine.play(raw_stream(sent))
    answer = await server.http.post("/v1/responses", json={"input": "x", "stream": True})
    assert answer.content == sent
    assert "stream_options" not in engine.requests[0].json
    assert 'tokens_total{key_name="-",kind="completion",model="m"} 2.0' in await server.metrics()


@pytest.mark.parametrize(
    ("reply", "status", "said"),
    [
        (body({"error": "Unauthorized"}, 401), 502, "VLLM_API_KEY"),
        (body({"detail": "Not Found"}, 404), 404, "does not serve this route"),
        (body(b"<html>", 500), 502, "status 500"),
        (body({"error": {"message": "queue is full"}}, 503, retry_after="7"), 503, "queue is full"),
        (
            body({"error": {"message": "no such model", "param": "model", "code": 404}}, 404),
            404,
            "no such model",
        ),
        (body({"detail": "odd"}, 418), 418, "odd"),
        (body({"error": {"message": "slow down", "code": 429}}, 429, retry_after="7"), 429, "slow down"),
        (body({"detail": "slow down"}, 429, retry_after="7"), 429, "slow down"),
    ],
)
async def test_errors_from_the_engine_get_the_same_format(
    server: Live, engine: ScriptedEngine, reply: Any, status: int, said: str
) -> None:
    engine.play(reply)
    answer = await server.http.post("/v1/embeddings", json={"input": "x"})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert isinstance(error["code"], str)
    assert said in error["message"]
    if status in (429, 503):
        assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("{engine}/v1/embeddings/", "/v1/embeddings/"),
        ("{engine}", "/"),
        ("{engine}@evil.example/x", "{engine}@evil.example/x"),
        ("https://other.example/v1/embeddings", "https://other.example/v1/embeddings"),
        ("/elsewhere?a=1", "/elsewhere?a=1"),
    ],
)
async def test_redirect_keeps_its_location_without_the_engines_own_address(
    server: Live, engine: ScriptedEngine, location: str, shown: str
) -> None:
    engine.play(body(b"", 307, location=location.format(engine=engine.url)))
    answer = await server.http.post("/v1/embeddings", json={"input": "x"})
    assert answer.status_code == 307
    assert answer.headers["location"] == shown.format(engine=engine.url)


@pytest.mark.parametrize("stream", [False, True])
async def test_redirect_in_the_tool_loop_is_reported(
    server: Live, engine: ScriptedEngine, stream: bool
) -> None:
    engine.play(body(b"", 307, location="/elsewhere"))
    tools = [{"type": "function", "function": {"name": "calculate_math"}}]
    answer = await server.chat(tools=tools, stream=stream)
    assert answer.status_code == 502
    assert "redirected the request to '/elsewhere'" in answer.json()["error"]["message"]


PER_TURN = {
    "input_tokens": 3,
    "input_tokens_details": {"cached_tokens": 1, "input_tokens_per_turn": [3], "cached_tokens_per_turn": [1]},
    "output_tokens": 2,
    "output_tokens_details": {"reasoning_tokens": 0, "output_tokens_per_turn": [2]},
    "total_tokens": 5,
}
NUMBERS = {
    "input_tokens": 3, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": 2,
    "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 5,
}  # fmt: skip


async def test_usage_has_only_numbers(server: Live, engine: ScriptedEngine) -> None:
    response = {"object": "response", "model": "m", "usage": PER_TURN}
    engine.play(body(response))
    answer = (await server.http.post("/v1/responses", json={"input": "x"})).json()
    assert answer == {**response, "usage": NUMBERS}
    end = json.dumps({"type": "response.completed", "response": response}).encode()
    engine.play(raw_stream(b"event: response.completed\ndata: " + end + b"\n\n"))
    streamed = (await server.http.post("/v1/responses", json={"input": "x", "stream": True})).text
    name, data = streamed.strip().split("\n")
    assert name == "event: response.completed"
    assert json.loads(data[6:])["response"] == {**response, "usage": NUMBERS}


@pytest.mark.parametrize("comment", [b": ping\n\n", b": ping\n", b":\n\n", b": a\n: b\n\n"])
@pytest.mark.parametrize("stream", ["/v1/chat/completions", "/v1/responses"])
async def test_comments_of_the_engine_are_left_out(
    server: Live, engine: ScriptedEngine, comment: bytes, stream: str
) -> None:
    """vLLM's --sse-keep-alive-interval sends events of nothing but a comment (vllm#54424)."""
    end = b'{"type": "response.completed"}' if stream == "/v1/responses" else b"[DONE]"
    events = b'data: {"a": 1}\n\n', b'data: {"usage": {}}\n\n', b"data: %b\n\n" % end
    engine.play(raw_stream(comment + comment.join(events)))
    request = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    answer = await server.http.post(stream, json=request)
    assert answer.content == b"".join(events)


async def test_request_id_is_passed_to_the_engine_and_back(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("ok"), whole("ok"), whole("ok"))
    answer = await server.chat(headers={"x-request-id": "my-request-1"})
    assert answer.headers["x-request-id"] == "my-request-1"
    assert engine.requests[0].headers["x-request-id"] == "my-request-1"
    made = (await server.chat()).headers["x-request-id"]
    assert engine.requests[1].headers["x-request-id"] == made
    refused = (await server.chat(headers={"x-request-id": "no hex\tid"})).headers["x-request-id"]
    assert "hex" not in refused


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"stream": True, "stream_options": {"continuous_usage_stats": True}}),
        ("/v1/chat/completions", {"tools": []}),
        ("/v1/chat/completions", {"tandem": {}}),
        ("/openai/deployments/other/chat/completions", {}),
    ],
)
async def test_integers_of_any_size_stay_exact(
    server: Live, engine: ScriptedEngine, path: str, fields: dict[str, Any]
) -> None:
    engine.play(stream(*text("x")) if fields.get("stream") else whole("x"))
    big = 123456789012345678901234567890
    payload = {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "vllm_xargs": {"x": big},
        **fields,
    }
    assert (await server.http.post(path, json=payload)).status_code == 200
    assert engine.requests[0].json["vllm_xargs"] == {"x": big}
