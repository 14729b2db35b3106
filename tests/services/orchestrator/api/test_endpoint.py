"""Edge cases of requests: limits, invalid input and clients that leave."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from orchestrator.telemetry import JsonFormatter
from tests.support.live import Live, live
from tests.support.scripted_engine import ScriptedEngine, after, call, call_deltas, stream, text, whole

MATH = {"type": "function", "function": {"name": "calculate_math"}}
SHAPE = {"message", "type", "param", "code"}
CHAT = "/v1/chat/completions"


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == SHAPE
    assert error["message"]
    return error


@pytest.mark.parametrize(
    "sent",
    [
        b"", b"{not json", b"[]", b'{"messages": []}', b'{"messages": [{"role": "user", "content": "\xff"}]}',
        b"[" * 10_000, b'{"messages":' + b"[" * 10_000, b'{"messages": [1]}',
        b'{"messages": [{}], "tools": 1}', b'{"messages": [{}], "tools": [{"function": {}}]}',
        b'{"messages": [{}], "tools": [{"function": {"name": ""}}]}',
    ],
)  # fmt: skip
async def test_invalid_body_gets_a_400_and_affects_no_other_request(
    server: Live, engine: ScriptedEngine, sent: bytes
) -> None:
    answer = await server.http.post(CHAT, content=sent, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert error_of(answer)["type"] == "invalid_request_error"
    assert engine.requests == []
    engine.play(whole("still here"))
    assert (await server.chat()).status_code == 200


async def test_body_over_the_limit_gets_a_413_that_shows_both_sizes(engine: ScriptedEngine) -> None:
    async with live(engine.url, MAX_BODY_BYTES="2000") as server:
        answer = await server.chat("x" * 3000)
        assert answer.status_code == 413
        assert "2000" in error_of(answer)["message"]

        async def chunks() -> Any:
            for _ in range(5):
                yield b"x" * 500

        answer = await server.http.post(CHAT, content=chunks())
        assert answer.status_code == 413
        assert "2500" in error_of(answer)["message"]


async def test_string_of_ten_megabytes_gets_a_413(server: Live) -> None:
    assert error_of(await server.chat("x" * 10_000_000))["code"] == "request_too_large"


async def test_large_body_within_the_limit_is_accepted(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("ok"))
    content = "x" * 5_000_000
    assert (await server.chat(content)).status_code == 200
    assert engine.requests[0].json["messages"][0]["content"] == content


async def test_body_that_arrives_byte_by_byte_gets_a_408(engine: ScriptedEngine) -> None:
    async with live(engine.url, BODY_TIMEOUT_SECONDS="0.2") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        error = json.loads(await reader.read())["error"]
        writer.close()
    assert " 408 " in head
    assert "connection: close" in head
    assert "BODY_TIMEOUT_SECONDS" in error["message"]


async def test_errors_for_wrong_method_and_unknown_route_have_the_same_format(server: Live) -> None:
    answer = await server.http.get(CHAT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert error_of(answer)["code"] == "method_not_allowed"
    answer = await server.http.post("/v1/models")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert error_of(answer)["code"] == "method_not_allowed"
    answer = await server.http.get("/v1/nothing")
    assert answer.status_code == 404
    assert "/v1/nothing" in error_of(answer)["message"]
    assert answer.headers["x-request-id"]


async def test_request_over_the_limit_gets_a_429_at_once(engine: ScriptedEngine) -> None:
    go_on = asyncio.Event()
    async with live(engine.url, MAX_IN_FLIGHT="1") as server:
        engine.play(after(go_on, whole("first")), whole("third"))
        first = asyncio.create_task(server.chat())
        await engine.arrived.wait()
        second = await server.chat()
        go_on.set()
        assert (await first).status_code == 200
        assert (await server.chat()).status_code == 200
    assert second.status_code == 429
    assert second.headers["retry-after"] == "1"
    assert "MAX_IN_FLIGHT" in error_of(second)["message"]


@pytest.mark.parametrize("tools", [None, [MATH]])
async def test_whole_request_has_a_deadline(engine: ScriptedEngine, tools: Any) -> None:
    never = asyncio.Event()
    async with live(engine.url, REQUEST_TIMEOUT_SECONDS="0.3") as server:
        engine.play(after(never, whole("late")), stream(*text("It "), never))
        late = await server.chat(tools=tools)
        events = await server.chat_events(tools=tools)
    assert late.status_code == 504
    assert "REQUEST_TIMEOUT_SECONDS" in error_of(late)["message"]
    assert isinstance(events[-1], dict)
    assert events[-1]["error"]["code"] == "deadline_exceeded"
    assert engine.aborted.is_set()


async def leave(
    server: Live, payload: dict[str, Any], until: asyncio.Event, *, first_bytes: int = 0
) -> float:
    """Sends a request, waits, breaks the connection, and returns the time when it did."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    sent = json.dumps({"messages": [{"role": "user", "content": "x"}], **payload}).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(sent) + sent
    )
    await until.wait()
    if first_bytes:
        await reader.readexactly(first_bytes)
    writer.transport.abort()
    return time.monotonic()


@pytest.mark.parametrize("tools", [None, [MATH]])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("phase", ["before the first token", "in the stream"])
async def test_request_to_the_engine_ends_within_100_ms_after_the_client_leaves(
    server: Live, engine: ScriptedEngine, tools: Any, streaming: bool, phase: str
) -> None:
    never = asyncio.Event()
    in_stream = phase == "in the stream" and streaming
    engine.play(stream(*text("It "), never) if in_stream else after(never, whole("late")))
    left = await leave(
        server,
        {"tools": tools, "stream": streaming},
        engine.arrived,
        first_bytes=200 if in_stream else 0,
    )
    await asyncio.wait_for(engine.aborted.wait(), 2)
    assert time.monotonic() - left < 0.1
    metrics = await server.metrics()
    while 'status="499"' not in metrics:
        metrics = await server.metrics()
    assert len(server.server.in_flight) == 0


async def test_running_tools_are_cancelled_when_the_client_leaves(
    engine: ScriptedEngine, tmp_path: Any, monkeypatch: Any
) -> None:
    (tmp_path / "slow_tools.py").write_text(
        "import asyncio\n"
        "started, cancelled = asyncio.Event(), asyncio.Event()\n"
        "async def slow_tool() -> str:\n"
        '    """Takes for ever."""\n'
        "    started.set()\n"
        "    try:\n"
        "        await asyncio.Event().wait()\n"
        "    except asyncio.CancelledError:\n"
        "        cancelled.set()\n"
        "        raise\n"
        '    return ""\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    async with live(engine.url, TOOL_MODULES="slow_tools") as server:
        import slow_tools  # type: ignore[import-not-found]

        engine.play(stream(*call_deltas("slow_tool", "{}")))
        left = await leave(
            server,
            {"stream": True, "tools": [{"type": "function", "function": {"name": "slow_tool"}}]},
            slow_tools.started,
        )
        await asyncio.wait_for(slow_tools.cancelled.wait(), 2)
        assert time.monotonic() - left < 0.1
    assert len(engine.requests) == 1


async def test_client_that_leaves_while_sending_its_body_is_forgotten(server: Live) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
    await writer.drain()
    writer.transport.abort()
    while 'status="499"' not in await server.metrics():
        pass
    assert len(server.server.in_flight) == 0


@pytest.mark.patches_methods
async def test_unexpected_error_gets_a_500_without_internal_details(
    server: Live, engine: ScriptedEngine, monkeypatch: Any, caplog: Any
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("orchestrator.engine.client.Engines.ask", broken)
    answer = await server.chat(headers={"x-request-id": "r-1"})
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert "r-1" in error_of(answer)["message"]
    assert "secret detail" in caplog.text


@pytest.fixture
def json_log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("orchestrator")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


async def test_call_is_logged_as_one_line_of_json_without_content(
    engine: ScriptedEngine, json_log: io.StringIO
) -> None:
    async with live(engine.url, BOOTSTRAP_API_KEY="a-long-secret-key") as server:
        engine.play(whole(calls=[call("calculate_math", '{"expression": "40+2"}')]), whole("private answer"))
        headers = {"authorization": "Bearer a-long-secret-key", "x-request-id": "r-7"}
        await server.chat("private question", tools=[MATH], headers=headers)
    lines = [json.loads(line) for line in json_log.getvalue().splitlines()]
    line = next(line for line in lines if line.get("request_id") == "r-7")
    assert line["key_name"] == "bootstrap"
    assert line["rounds"] == 2
    assert line["tools"] == ["calculate_math"]
    assert (line["status"], line["route"], line["prompt_tokens"]) == (200, CHAT, 20)
    assert line["seconds"] > 0
    log = json.dumps(lines)
    assert not any(secret in log for secret in ("private", "a-long-secret-key", "40+2"))


async def test_request_without_an_engine_is_logged_with_the_code_that_the_alarm_counts(
    engine: ScriptedEngine, json_log: io.StringIO
) -> None:
    engine.healthy = False
    async with live(engine.url, ENGINE_WAIT_SECONDS="0.2") as server:
        answer = await server.chat(headers={"x-request-id": "r-8"})
    assert answer.status_code == 503
    lines = [json.loads(line) for line in json_log.getvalue().splitlines()]
    line = next(line for line in lines if line.get("request_id") == "r-8")
    assert line["error_code"] == "engine_unavailable"
