"""An MCP server that does what a test says, byte for byte. It speaks the newest version or the older ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from .scripted_engine import EngineRequest, read_request
from .scripted_server import ScriptedServer

Json = dict[str, Any]

MODERN = "2026-07-28"


@dataclass(eq=False)
class Call:
    """A request, and where its answer is written."""

    request: EngineRequest
    writer: asyncio.StreamWriter
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def message(self) -> Json:
        return self.request.json

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int, body: bytes, *lines: str, kind: str = "application/json") -> None:
        head = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *lines]
        await self.send("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    async def result(self, result: Any, *lines: str) -> None:
        message = {"jsonrpc": "2.0", "id": self.message["id"], "result": result}
        await self.answer(200, json.dumps(message).encode(), *lines)

    async def error(self, code: int, message: str, status: int = 200) -> None:
        error = {"jsonrpc": "2.0", "id": self.message.get("id"), "error": {"code": code, "message": message}}
        await self.answer(status, json.dumps(error).encode())

    async def stream(self) -> None:
        """Starts a stream of events, which ends with the connection."""
        await self.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")

    async def event(self, message: Any) -> None:
        await self.send(b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n")

    async def text(self, text: str) -> None:
        await self.result({"content": [{"type": "text", "text": text}]})


Answer = Callable[[Call], Awaitable[None]]


def tool(name: str, **fields: Any) -> Json:
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    return {"name": name, "description": f"The tool {name}.", "inputSchema": schema, **fields}


class ScriptedMcp(ScriptedServer):
    """Listens on a free port of 127.0.0.1.

    Attributes:
        modern: whether it speaks the newest version. Otherwise it starts sessions.
        tools: what it lists.
        listing: fields to add to the list of tools.
        on_call: answers `tools/call`.
        on: answers other methods, in place of this server.
        sessions: the sessions that it knows.
        needs: a header that each request must have, and its value.
        lost_status: the status for a session that it does not know.
        messages: the methods of all messages, in order.
    """

    def __init__(self, *, modern: bool = True) -> None:
        super().__init__()
        self.modern = modern
        self.tools: Any = [tool("echo")]
        self.listing: Json = {}
        self.on_call: Answer = _echo
        self.on: dict[str, Answer] = {}
        self.sessions: set[str] = set()
        self.needs: tuple[str, str] | None = None
        self.lost_status = 404
        self.requests: list[EngineRequest] = []
        self.listeners: set[Call] = set()
        self.started = 0

    @property
    def url(self) -> str:
        return f"{super().url}/mcp"

    @property
    def messages(self) -> list[str]:
        return [one.json.get("method", "answer") for one in self.requests if one.method == "POST"]

    def of(self, method: str) -> list[EngineRequest]:
        return [one for one in self.requests if one.method == "POST" and one.json.get("method") == method]

    async def stop(self) -> None:
        """Stops listening, breaks every connection and forgets every session."""
        self.sessions.clear()
        await super().stop()

    async def announce(self) -> None:
        """Sends to all listeners that the list of tools has changed."""
        for call in list(self.listeners):
            await call.event({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await read_request(reader):
            self.requests.append(request)
            call = Call(request, writer)
            watcher = asyncio.create_task(_watch(reader, call))
            try:
                await self._answer(call)
            finally:
                watcher.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watcher
            if call.left.is_set():
                break

    async def _answer(self, call: Call) -> None:
        if self.needs and call.request.headers.get(self.needs[0]) != self.needs[1]:
            await call.answer(401, b'{"error": "unauthorized"}')
            return
        if call.request.method == "GET":
            await self._listen(call)
            return
        if call.request.method == "DELETE":
            await call.answer(200, b"")
            return
        method = call.message.get("method", "answer")
        if method in self.on:
            await self.on[method](call)
        elif self.modern:
            await self._answer_modern(call, method)
        else:
            await self._answer_legacy(call, method)

    async def _answer_modern(self, call: Call, method: str) -> None:
        meta = call.message.get("params", {}).get("_meta", {})
        if meta.get("io.modelcontextprotocol/protocolVersion") != MODERN:
            await call.error(-32602, "no envelope", 400)
        elif call.request.headers.get("mcp-method") != method:
            await call.error(-32020, "Mcp-Method does not match", 400)
        elif method == "server/discover":
            capabilities = {"tools": {"listChanged": True}}
            await call.result({"supportedVersions": [MODERN], "capabilities": capabilities})
        elif method == "subscriptions/listen":
            await self._listen(call)
        else:
            await self._tools(call, method)

    async def _answer_legacy(self, call: Call, method: str) -> None:
        session = call.request.headers.get("mcp-session-id", "")
        if method == "initialize":
            self.started += 1
            session = f"session-{self.started}"
            self.sessions.add(session)
            answer = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {"listChanged": True}}}
            await call.result(answer, f"Mcp-Session-Id: {session}")
        elif not session:
            await call.error(-32000, "Bad Request: Server not initialized", 400)
        elif session not in self.sessions:
            await call.error(-32000, "Bad Request: No valid session ID provided", self.lost_status)
        elif "id" not in call.message or "method" not in call.message:
            await call.answer(202, b"")
        else:
            await self._tools(call, method)

    async def _tools(self, call: Call, method: str) -> None:
        if method == "tools/list":
            await call.result({"tools": self.tools, **self.listing})
        elif method == "tools/call":
            await self.on_call(call)
        else:
            await call.error(-32601, "Method not found", 404 if self.modern else 200)

    async def _listen(self, call: Call) -> None:
        await call.stream()
        self.listeners.add(call)
        await call.left.wait()
        self.listeners.discard(call)


async def _echo(call: Call) -> None:
    await call.text(str(call.message["params"]["arguments"].get("text")))


async def _watch(reader: asyncio.StreamReader, call: Call) -> None:
    """Notices that the client has closed the connection. A client that waits sends nothing."""
    with contextlib.suppress(ConnectionError):
        if await reader.read(1):
            return
    call.left.set()


@contextlib.asynccontextmanager
async def scripted_mcp(*, modern: bool = True) -> AsyncIterator[ScriptedMcp]:
    server = ScriptedMcp(modern=modern)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
