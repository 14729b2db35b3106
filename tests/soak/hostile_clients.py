"""Clients that attack the server, with a key or without."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache

MIB = 1_048_576
CHAT = "/v1/chat/completions"
_ROUTES = (CHAT, CHAT, CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses")
_TOOLS = [{"type": "function", "function": {"name": name}} for name in ("calculate_math", "query_database")]
_WAIT_SECONDS = 10.0


@dataclass
class Attacker:
    """Attacks a server on 127.0.0.1 and counts the attacks."""

    port: int
    key: str
    random: random.Random
    counts: dict[str, int] = field(default_factory=dict)

    async def attack(self) -> None:
        """Runs one attack to its end, which the server may bring about at any time."""
        chosen = self.random.choice(ATTACKS)
        self.counts[chosen.__name__] = self.counts.get(chosen.__name__, 0) + 1
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(2 * _WAIT_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    await chosen(self, reader, writer)
                finally:
                    writer.transport.abort()

    def head(self, route: str, length: int | None = None, *fields: str, method: str = "POST") -> bytes:
        lines = [f"{method} {route} HTTP/1.1", "Host: x", *fields]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        if self.random.random() < 0.8:
            lines.append(f"Authorization: Bearer {self.key}")
        if self.random.random() < 0.3:
            lines.append(f"X-Request-Id: {self.random.getrandbits(128)}")
        return "\r\n".join([*lines, "", ""]).encode()

    def request(self, body: bytes, *fields: str) -> bytes:
        return self.head(self.random.choice(_ROUTES), len(body), *fields) + body


Attack = Callable[[Attacker, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _read(reader: asyncio.StreamReader, seconds: float = _WAIT_SECONDS) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while await reader.read(MIB):
                pass


@cache
def _bodies() -> tuple[bytes, ...]:
    """Large bodies that cost more memory than their size."""
    start, end = b'{"stream":true,"messages":[{"role":"user","content":', b"}]}"
    size = 8 * MIB - 200
    values = (
        b"[" + b"[]," * (size // 3 - 1) + b"1]",
        b"[" + b"{}," * (size // 3 - 1) + b"1]",
        b"[" + b"1," * (size // 2 - 1) + b"1]",
        b'["' + b'","' * (size // 3 - 2) + b'"]',
        b"[" + b'{"a":1},' * (size // 8 - 1) + b"1]",
        b"[" * 200_000 + b"]" * 200_000,
        b"[" * 250 + b"]" * 250,
        b'"' + b"\\u20ac" * (size // 6 - 1) + b'"',
        b'"' + "\U0001f600".encode() * (size // 4 - 1) + b'"',
        b'"' + b"x" * (size - 2) + b'"',
        b'"' + b"<tool_call>{" * (size // 12 - 1) + b'"',
    )
    whole = [start + value + end for value in values]
    tools = json.dumps({"messages": [{"role": "user", "content": "x"}], "tools": _TOOLS * 20_000}).encode()
    messages = json.dumps({"messages": [{"role": "tool", "content": "<|im_end|>"}] * 60_000}).encode()
    return (*whole, tools, messages)


async def large_body(self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _send(writer, self.request(self.random.choice(_bodies())))
    await _read(reader)


async def large_bodies_with_tools(
    self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    body = self.random.choice(_bodies())
    tools = json.dumps(_TOOLS).encode()
    await _send(writer, self.request(body[:-1] + b',"tools":' + tools + b"}"))
    await _read(reader)


async def chat(self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A request of usual size, whose answer the hostile engine gives."""
    request = {"messages": [{"role": "user", "content": "x"}], "stream": self.random.random() < 0.5}
    tools = _TOOLS if self.random.random() < 0.7 else []
    await _send(writer, self.request(json.dumps({**request, "tools": tools}).encode()))
    await _read(reader, self.random.random() * _WAIT_SECONDS)


async def unread_answer(self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await chat(self, reader, writer)


async def unread_pipeline(self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await _send(writer, self.head("/metrics", method="GET") * 20_000)
    await asyncio.sleep(1)
    await _read(reader, 0.1)


async def half_head(self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _send(writer, self.head(CHAT)[:-4] + b"\r\nX-A: " + b"a" * self.random.randint(0, 60_000))
    await _read(reader)


async def large_head(self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    fields = b"".join(b"X-%d: a\r\n" % number for number in range(self.random.choice([90, 200, 100_000])))
    await _send(writer, self.head(CHAT)[:-2] + fields + b"\r\n")
    await _read(reader)


async def half_body(self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    size = self.random.randint(1, 8 * MIB)
    await _send(writer, self.head(CHAT, size + 1) + b"x" * size)
    await _read(reader)


async def endless_chunks(self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    size = self.random.choice([1, 100, 65_536])
    chunk = b"%x\r\n%b\r\n" % (size, b"x" * size)
    await _send(writer, self.head(CHAT, None, "Transfer-Encoding: chunked"))
    for _ in range(32 * MIB // len(chunk) // 4):
        await _send(writer, chunk * 4)
    await _read(reader)


async def endless_trailers(
    self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await _send(writer, self.head(CHAT, None, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n")
    for _ in range(400):
        await _send(writer, b"X-A: " + b"a" * 60_000 + b"\r\n")
    await _read(reader)


@cache
def _bombs() -> tuple[bytes, ...]:
    zeros = gzip.compress(b'{"messages":"' + b" " * 128 * MIB + b'"}', 1)
    lists = gzip.compress(b"[" + b"[]," * (20 * MIB))
    return zeros, lists, b"\x1f\x8b\x08" + b"\0" * MIB


async def compressed(self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    coding = self.random.choice(["gzip", "deflate", "br", "zstd", "gzip, gzip"])
    await _send(writer, self.request(self.random.choice(_bombs()), f"Content-Encoding: {coding}"))
    await _read(reader)


async def other_routes(self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    method = self.random.choice(["GET", "PUT", f"M{self.random.getrandbits(32)}"])
    for _ in range(50):
        path = f"/{self.random.getrandbits(64)}" * self.random.choice([1, 2000])
        await _send(writer, self.head(path, method=method))
    await _read(reader, 2)


async def noise(self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _send(writer, self.random.randbytes(self.random.randint(1, 200_000)))
    await _read(reader, 2)


async def idle(self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _read(reader, self.random.random() * _WAIT_SECONDS)


async def leave(self: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _send(writer, self.request(self.random.choice(_bodies())))
    await asyncio.sleep(self.random.random())


def prepare() -> None:
    """Creates the large bodies, which takes some seconds."""
    _bodies()
    _bombs()


ATTACKS: tuple[Attack, ...] = (
    large_body, large_body, large_bodies_with_tools, chat, chat, chat, chat, unread_answer, unread_answer,
    unread_pipeline, half_head, large_head, half_body, endless_chunks, endless_trailers, compressed,
    other_routes, noise, idle, leave,
)  # fmt: skip
