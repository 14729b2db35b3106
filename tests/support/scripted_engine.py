"""An engine that plays a script: each chat request gets the next reply, byte for byte as written."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from .scripted_server import ScriptedServer

Json = dict[str, Any]
CUT = object()  # in a stream: the connection breaks here
NO_DONE = object()  # in a stream: ends here, without [DONE]


@dataclass
class EngineRequest:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        value: Json = json.loads(self.body)
        return value


@dataclass
class Exchange:
    """A request in progress: where the reply is written, and whether the client disconnected."""

    request: EngineRequest
    writer: asyncio.StreamWriter
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))


Reply = Callable[[Exchange], Awaitable[None]]


def whole(
    content: str | None = None,
    *,
    calls: list[Json] | None = None,
    finish: str | None = None,
    usage: tuple[int, int] = (10, 5),
    **message: Any,
) -> Reply:
    """Builds a chat.completion as vLLM returns it."""
    said = {
        "role": "assistant", "content": content, "refusal": None, "annotations": None, "audio": None,
        "function_call": None, "reasoning": None, **message,
    }  # fmt: skip
    if calls is not None:
        said["tool_calls"] = calls
    reason = finish or ("tool_calls" if calls else "stop")
    return body(
        {
            "id": "chatcmpl-scripted", "object": "chat.completion", "created": 1_795_376_254,
            "model": "scripted", "choices": [
                {"index": 0, "message": said, "logprobs": None, "finish_reason": reason, "stop_reason": None}
            ],
            "system_fingerprint": "vllm-0.32.0", "usage": counts(*usage), "kv_transfer_params": None,
        }
    )  # fmt: skip


def counts(prompt: int, completion: int) -> Json:
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": 1},
    }


def body(value: Any, status: int = 200, **headers: str) -> Reply:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()

    async def reply(exchange: Exchange) -> None:
        fields = {"content_type": "application/json", **headers}
        lines = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in fields.items())
        head = f"HTTP/1.1 {status} Status\r\n{lines}"
        await exchange.write(head.encode() + b"content-length: %d\r\n\r\n" % len(data) + data)

    return reply


def call(name: str, arguments: Any, id: str = "call-1") -> Json:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text}}


# Pieces of a stream: a dict is a chunk's delta, bytes are written unchanged, an event is awaited.


def text(*pieces: str) -> list[Json]:
    return [{"content": piece} for piece in pieces]


def call_deltas(name: str, arguments: str, index: int = 0, id: str = "call-1") -> list[Json]:
    """Builds a call as vLLM streams it: the name first, then the arguments in pieces."""
    first = {"id": id, "type": "function", "index": index, "function": {"name": name}}
    pieces = [arguments[at : at + 4] for at in range(0, len(arguments), 4)]
    return [
        {"content": None, "tool_calls": [first]},
        *(
            {"content": None, "tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in pieces
        ),
    ]


def chunk(delta: Json | None, finish: str | None = None, usage: Json | None = None) -> bytes:
    value: Json = {
        "id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1_795_376_254,
        "model": "scripted", "choices": [],
    }  # fmt: skip
    if delta is not None:
        value["choices"] = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    if usage:
        value["usage"] = usage
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def stream(*pieces: Any, finish: str = "stop", usage: tuple[int, int] = (10, 5)) -> Reply:
    """Streams the role chunk, the pieces, a finish, the usage if requested, and [DONE]."""

    async def reply(exchange: Exchange) -> None:
        await exchange.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        await exchange.chunk(chunk({"role": "assistant", "content": ""}))
        for piece in pieces:
            if piece is CUT:
                exchange.writer.transport.abort()
                return
            if piece is NO_DONE:
                await exchange.write(b"0\r\n\r\n")
                return
            if isinstance(piece, asyncio.Event):
                await _wait(piece, exchange)
            else:
                await exchange.chunk(piece if isinstance(piece, bytes) else chunk(piece))
        await exchange.chunk(chunk({}, finish))
        if (exchange.request.json.get("stream_options") or {}).get("include_usage"):
            await exchange.chunk(chunk(None, usage=counts(*usage)))
        await exchange.chunk(b"data: [DONE]\n\n")
        await exchange.write(b"0\r\n\r\n")

    return reply


def raw_stream(data: bytes, sizes: list[int] | None = None) -> Reply:
    """Streams exactly these bytes, in writes of the given sizes."""

    async def reply(exchange: Exchange) -> None:
        await exchange.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        at = 0
        for size in sizes or [len(data)]:
            if data[at : at + size]:
                await exchange.chunk(data[at : at + size])
            at += size
        if data[at:]:
            await exchange.chunk(data[at:])
        await exchange.write(b"0\r\n\r\n")

    return reply


def cut(after: bytes = b"") -> Reply:
    """Breaks the connection after these bytes."""

    async def reply(exchange: Exchange) -> None:
        if after:
            await exchange.write(after)
        exchange.writer.transport.abort()

    return reply


def after(event: asyncio.Event, then: Reply) -> Reply:
    async def reply(exchange: Exchange) -> None:
        await _wait(event, exchange)
        await then(exchange)

    return reply


async def _wait(event: asyncio.Event, exchange: Exchange) -> None:
    """Waits for the event or the end of the connection."""
    waits = [asyncio.create_task(event.wait()), asyncio.create_task(exchange.left.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
    if exchange.left.is_set():
        raise ConnectionError("the client disconnected")


class ScriptedEngine(ScriptedServer):
    """Listens on a free port of 127.0.0.1; see `play`."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[EngineRequest] = []
        self.replies: deque[Reply] = deque()
        self.otherwise: Reply | None = None
        self.aborted = asyncio.Event()
        self.arrived = asyncio.Event()
        self.running = 0
        self.models: Json = {"object": "list", "data": [{"id": "scripted", "object": "model"}]}
        self.pages: dict[str, Reply] = {}
        self.healthy = True
        self.key: str | None = None

    def play(self, *replies: Reply) -> None:
        """Queues replies for the next requests, in order."""
        self.replies.extend(replies)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await read_request(reader):
            await self._answer(request, reader, writer)

    async def _answer(
        self, request: EngineRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        exchange = Exchange(request, writer)
        if self.key and request.path != "/health" and not self._accepts(request):
            await body({"error": "Unauthorized"}, 401)(exchange)
            return
        if request.method == "GET":
            answers = {"/health": body(b"", 200 if self.healthy else 503), "/v1/models": body(self.models)}
            await (answers | self.pages).get(request.path, body({"detail": "Not Found"}, 404))(exchange)
            return
        self.requests.append(request)
        self.running += 1
        self.arrived.set()
        watcher = asyncio.create_task(self._watch(reader, exchange))
        try:
            reply = self.replies.popleft() if self.replies else self.otherwise
            assert reply is not None, f"no reply left for {request.body!r}"
            await reply(exchange)
        finally:
            self.running -= 1
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher

    def _accepts(self, request: EngineRequest) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.key}"

    async def _watch(self, reader: asyncio.StreamReader, exchange: Exchange) -> None:
        # A client that waits for its answer sends nothing, so any read means that it disconnected.
        with contextlib.suppress(ConnectionError):
            if await reader.read(1):
                return
        exchange.left.set()
        self.aborted.set()


async def read_request(reader: asyncio.StreamReader) -> EngineRequest | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return EngineRequest(
        method, path, headers, await reader.readexactly(int(headers.get("content-length", 0)))
    )


@contextlib.asynccontextmanager
async def scripted_engine() -> AsyncIterator[ScriptedEngine]:
    engine = ScriptedEngine()
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
