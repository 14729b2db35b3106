"""HTTP/1.1 as bytes on a socket, for what client libraries do not do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.live import Live

CHAT = "/v1/chat/completions"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class RawAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error object, which must have OpenAI's shape."""
        assert self.headers["content-type"] == "application/json"
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        return error

    @property
    def content(self) -> str:
        return str(json.loads(self.body)["choices"][0]["message"]["content"])


def request(method: str, path: str, *fields: str, body: bytes = b"", version: str = "1.1") -> bytes:
    """A request with a host and these fields; a length is among them if it is to be sent."""
    lines = [f"{method} {path} HTTP/{version}", "Host: x", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def post(content: str = "x", *fields: str, path: str = CHAT, version: str = "1.1", **payload: Any) -> bytes:
    """A chat request."""
    body = chat_body(content, **payload)
    return request("POST", path, f"Content-Length: {len(body)}", *fields, body=body, version=version)


def post_in_chunks(content: str, *fields: str, size: int = 7, end: bytes = b"0\r\n\r\n") -> bytes:
    """A chat request whose body comes in chunks of `size` bytes."""
    body = chat_body(content)
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return request("POST", CHAT, "Transfer-Encoding: chunked", *fields, body=chunks + end)


def chat_body(content: str = "x", **payload: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": content}], **payload}).encode()


@asynccontextmanager
async def connected(server: Live | int) -> AsyncIterator[Stream]:
    port = server if isinstance(server, int) else server.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader, *, head_only: bool = False) -> RawAnswer:
    """The next answer, whole."""
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.strip().split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        code = int(status.split()[1])
        if head_only or code in (100, 204, 304):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = await _chunks(reader)
        else:
            body = await reader.readexactly(int(headers["content-length"]))
    return RawAnswer(code, headers, body)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What still comes until the server closes; it has to do so within 10 s."""
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionError:
            return b""
