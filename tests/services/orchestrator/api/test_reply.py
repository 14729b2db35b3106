"""Headers, heartbeats and the end of a stream."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.api.in_flight import InFlight
from orchestrator.api.reply import Reply
from orchestrator.errors import ApiError
from orchestrator.memory import Budget
from tests.support.live import Live, events_of, live, text_of, until
from tests.support.scripted_engine import ScriptedEngine, after, body, call_deltas, stream, text, whole

MATH = {"type": "function", "function": {"name": "calculate_math"}}


@pytest.fixture
def beat() -> str:
    return "0.05"


async def streamed(
    url: str, beat: str, go_on: asyncio.Event, *, beats: int = 0, tools: list[Any] | None = None
) -> bytes:
    """Streams an answer whole; after this number of heartbeats, or the first part, lets the engine go on."""
    request = {"messages": [{"role": "user", "content": "x"}], "stream": True, "tools": tools}
    async with (
        live(url, HEARTBEAT_SECONDS=beat) as server,
        server.http.stream("POST", "/v1/chat/completions", json=request) as answer,
    ):
        assert answer.status_code == 200
        received = b""
        async for part in answer.aiter_raw():
            received += part
            if received.count(b": keep-alive") >= beats:
                go_on.set()
    return received


@pytest.mark.parametrize("tools", [None, [MATH]])
async def test_headers_and_heartbeats_are_sent_before_a_late_first_event(
    engine: ScriptedEngine, beat: str, tools: Any
) -> None:
    go_on = asyncio.Event()
    engine.play(after(go_on, stream(*text("Hello"))))
    received = await streamed(engine.url, beat, go_on, beats=2, tools=tools)
    events = events_of(received.decode())
    assert events[:2] == [": keep-alive", ": keep-alive"]
    assert text_of(events) == "Hello"
    assert events[-1] == "[DONE]"


async def test_heartbeats_are_sent_during_tools_and_later_rounds(engine: ScriptedEngine, beat: str) -> None:
    go_on = asyncio.Event()
    engine.play(
        stream(*call_deltas("calculate_math", '{"expression": "1"}')), after(go_on, stream(*text("1")))
    )
    received = await streamed(engine.url, beat, go_on, beats=1, tools=[MATH])
    assert text_of(events_of(received.decode())) == "1"


async def test_heartbeat_never_splits_an_event(engine: ScriptedEngine, beat: str) -> None:
    go_on = asyncio.Event()
    whole_event = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
    engine.play(stream(whole_event[:20], go_on, whole_event[20:]))
    received = await streamed(engine.url, beat, go_on, beats=1)
    assert whole_event in received
    assert text_of(events_of(received.decode())) == "Hello"


async def test_early_failure_keeps_its_status(server: Live, engine: ScriptedEngine) -> None:
    engine.play(
        body({"error": {"message": "no", "type": "BadRequestError", "param": None, "code": 400}}, 400)
    )
    answer = await server.chat(stream=True)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"


async def test_late_failure_is_sent_as_an_event(engine: ScriptedEngine, beat: str) -> None:
    go_on = asyncio.Event()
    refusal = body({"error": {"message": "no", "type": "BadRequestError", "param": None, "code": 400}}, 400)
    engine.play(after(go_on, refusal))
    received = await streamed(engine.url, beat, go_on)
    events = events_of(received.decode())
    assert isinstance(events[-1], dict)
    assert events[-1]["error"]["message"] == "no"
    assert "[DONE]" not in events


async def test_answer_that_is_not_a_stream_is_an_error_after_the_headers(
    engine: ScriptedEngine, beat: str
) -> None:
    go_on = asyncio.Event()
    engine.play(after(go_on, whole("not a stream")))
    received = await streamed(engine.url, beat, go_on)
    assert b"without a stream" in received


async def test_whole_answer_has_no_heartbeat(engine: ScriptedEngine, beat: str) -> None:
    go_on = asyncio.Event()
    engine.play(after(go_on, whole("slow")), stream(go_on, *text("done")))
    async with live(engine.url, HEARTBEAT_SECONDS=beat) as server:
        slow = asyncio.create_task(server.chat())
        await engine.arrived.wait()
        # The heartbeats of a concurrent stream show that enough time has passed.
        async with server.http.stream(
            "POST", "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "x"}], "stream": True},
        ) as answer:  # fmt: skip
            received = b""
            async for part in answer.aiter_raw():
                received += part
                if received.count(b": keep-alive") == 2:
                    go_on.set()
        assert (await slow).json()["choices"][0]["message"]["content"] == "slow"


class Written(asyncio.Transport):
    """Records what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data


class Client:
    """Reads everything at once."""

    general_headers = b""
    write_paused = False

    def __init__(self, transport: Written) -> None:
        self.transport: asyncio.Transport = transport
        self.loop = asyncio.get_running_loop()

    async def drain(self) -> None:
        raise AssertionError("nothing has to be waited for")


def reply_to(transport: Written, **options: bool) -> Reply:
    return Reply(
        Client(transport),
        "r",
        in_flight=InFlight(1, Budget(1_000_000)),
        keep_alive=True,
        chunked=options.get("chunked", True),
        head_only=False,
        heartbeat_seconds=0.01,
    )


@pytest.mark.parametrize("finish", ["whole", "end", "fail"])
async def test_no_heartbeat_after_the_end(finish: str) -> None:
    ended, clock = Written(), Written()
    reply = reply_to(ended)
    reply.expect_stream()
    if finish == "whole":
        reply.whole(400, b"{}")
    else:
        await reply.write(b"data: x\n\n")
        reply.end() if finish == "end" else reply.fail(ApiError("no"))
    written = ended.data
    # The heartbeats of another open reply show that enough time has passed.
    beating = reply_to(clock)
    beating.expect_stream()
    await until(lambda: clock.data.count(b": keep-alive") == 3)
    beating.close()
    assert ended.data == written


async def test_http_1_0_client_gets_a_stream_without_chunks(engine: ScriptedEngine) -> None:
    engine.play(stream(*text("Hello")))
    async with live(engine.url) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        sent = b'{"messages": [{"role": "user", "content": "x"}], "stream": true}'
        writer.write(b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(sent) + sent)
        head, _, events = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
    assert "connection: close" in head
    assert "chunked" not in head
    assert text_of(events_of(events)) == "Hello"


async def test_connection_of_a_client_that_stops_reading_is_closed_at_the_deadline(
    engine: ScriptedEngine,
) -> None:
    engine.otherwise = stream(*text(*["x" * 100_000] * 400))
    async with live(engine.url, REQUEST_TIMEOUT_SECONDS="0.5") as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
        sent = b'{"messages": [{"role": "user", "content": "x"}], "stream": true}'
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(sent) + sent
        )
        while 'route="/v1/chat/completions",status="504"' not in await server.metrics():
            pass
        # Only the connection that requested the metrics is left: the other one has released its socket.
        await until(lambda: len(server.server.connections) == 1)
        writer.transport.abort()
