"""An MCP server that sends whatever the fuzzer asks for, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from tests.support.scripted_engine import EngineRequest, read_request

ID = "@ID@"
"""Stands for the id of the request in an answer."""


def good(method: str) -> str:
    """Returns a correct answer of a server that has both kinds of versions."""
    results: dict[str, Any] = {
        "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}},
        "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {"listChanged": True}}},
        "tools/list": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]},
        "tools/call": {"content": [{"type": "text", "text": "ok"}]},
    }
    return json.dumps({"jsonrpc": "2.0", "id": ID, "result": results.get(method, {})})


class HostileMcp:
    """Attributes: answers: by method, see `_framed`; requests: all that were read."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.requests: list[EngineRequest] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._closed = asyncio.Event()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while request := await read_request(reader):
                self.requests.append(request)
                if not await self._answer(request, writer):
                    break
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, request: EngineRequest, writer: asyncio.StreamWriter) -> bool:
        """Answers a request, and returns whether the connection goes on."""
        message = request.json if request.body else {}
        method = message.get("method", request.method)
        answer = self.answers.get(method, {"body": good(method)})
        number = json.dumps(message.get("id", 0))
        data = _framed(answer, answer["body"].replace(f'"{ID}"', number).encode("latin-1"))
        for _ in range(answer.get("times", 1)):
            writer.write(data)
            await writer.drain()
        match answer.get("end", "keep"):
            case "keep":
                return True
            case "hang":
                await self._closed.wait()
            case "reset":
                writer.transport.abort()
        return False

    def close(self) -> None:
        self._closed.set()
        for writer in list(self._writers):
            writer.transport.abort()


def _framed(answer: Mapping[str, Any], body: bytes) -> bytes:
    """Returns the bytes of an HTTP answer, or of the next events if `raw` says that they are the answer."""
    if answer.get("raw"):
        return body
    body = b" " * answer.get("pad", 0) + body
    if answer.get("kind", "application/json") == "text/event-stream":
        body = b"".join(b"event: message\ndata: %b\n\n" % part for part in body.split(b"\n\n"))
    lines = [
        f"HTTP/1.1 {answer.get('status', 200)} X",
        f"Content-Type: {answer.get('kind', 'application/json')}",
    ]
    lines += [f"Mcp-Session-Id: {answer['session']}"] if answer.get("session") else []
    if answer.get("framing", "length") == "length":
        lines.append(f"Content-Length: {len(body)}")
    elif answer["framing"] == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def hostile_mcp(answers: Mapping[str, Any]) -> AsyncIterator[tuple[str, HostileMcp]]:
    """Starts a server, and returns its URL and the server."""
    hostile = HostileMcp(answers)
    listener = await asyncio.start_server(hostile.connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/mcp", hostile
    finally:
        listener.close()
        hostile.close()
