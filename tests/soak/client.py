"""A client that hides nothing: HTTP/1.1 over raw streams, and balancing between orchestrators."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

_HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: soak\r\nContent-Type: application/json\r\n"


class Broken(Exception):
    """The server closed a connection in mid-exchange or did not speak HTTP. The message says where."""


class NoneInService(Exception):
    """All orchestrators refused the connection."""


@dataclass(frozen=True, slots=True)
class Leave:
    """When a client disconnects before it has its answer: at the first of these conditions."""

    sent: float = 1.0
    """After this share of the request body."""
    seconds: float | None = None
    """After waiting this long for the answer."""
    pieces: int | None = None
    """After this many pieces of a stream."""
    saw: bytes | None = None
    """After a piece that contains this."""
    reset: bool = False
    """Whether to reset the connection instead of closing it in an orderly way."""


NEVER = Leave()


@dataclass(slots=True)
class Response:
    """A complete answer; `body` is without chunk framing."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")


class Connection:
    """One connection to an orchestrator, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.reusable = True

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connects.

        Raises:
            ConnectionRefusedError: Nothing listens on the port.
        """
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @property
    def usable(self) -> bool:
        return self.reusable and not self._reader.at_eof() and not self._writer.is_closing()

    async def ask(self, body: bytes, leave: Leave = NEVER) -> Response | None:
        """Sends a request; returns the answer, or None if the client disconnected as intended.

        Raises:
            Broken: The connection closed before the answer was complete.
        """
        self.reusable = False
        head = f"{_HEAD}Content-Length: {len(body)}\r\n\r\n".encode()
        self._writer.write(head + body[: int(len(body) * leave.sent)])
        if leave.sent < 1:
            await self._leave(leave)
            return None
        response = None
        try:
            async with asyncio.timeout(leave.seconds) as patience:
                response = await self._head()
                pieces = 0
                while piece := await self._piece(response):
                    response.body += piece
                    pieces += 1
                    if pieces == leave.pieces or (leave.saw and leave.saw in piece):
                        await self._leave(leave)
                        return None
        except TimeoutError:
            if not patience.expired():
                raise
            await self._leave(leave)
            return None
        except (OSError, EOFError, ValueError) as error:
            got = "before the answer" if response is None else f"after {response.body[-200:]!r}"
            raise Broken(f"{type(error).__name__} {got}") from None
        self.reusable = response.headers.get("connection", "").lower() != "close"
        return response

    def close(self) -> None:
        self._writer.close()

    async def _leave(self, leave: Leave) -> None:
        if leave.reset:
            self._writer.transport.abort()
        else:
            with contextlib.suppress(OSError):
                await self._writer.drain()
            self._writer.close()

    async def _head(self) -> Response:
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")[:-4].split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return Response(int(first.split(" ")[1]), {name.lower(): value for name, value in headers.items()})

    async def _piece(self, response: Response) -> bytes:
        """Reads the next piece of the body; `b""` at its end."""
        if "content-length" in response.headers:
            return await self._reader.readexactly(
                int(response.headers["content-length"]) - len(response.body)
            )
        if response.headers.get("transfer-encoding") != "chunked":
            raise ValueError(f"body without a length: {response.headers}")
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        return (await self._reader.readexactly(size + 2))[:-2]


@dataclass(slots=True)
class Balancer:
    """Distributes requests like a load balancer: round robin, skipping servers that refuse connections."""

    ports: list[int]
    refused: int = 0
    _turn: Iterator[int] = field(default_factory=itertools.count)
    _idle: dict[int, list[Connection]] = field(default_factory=dict)

    async def connect(self) -> tuple[int, Connection]:
        """Returns a kept or new connection and its port.

        Raises:
            NoneInService: All servers refused.
        """
        turn = next(self._turn)
        ports = list(self.ports)
        for step in range(len(ports)):
            port = ports[(turn + step) % len(ports)]
            idle = self._idle.setdefault(port, [])
            while idle:
                connection = idle.pop()
                if connection.usable:
                    return port, connection
                connection.close()
            try:
                return port, await Connection.open(port)
            except ConnectionRefusedError:
                self.refused += 1
        raise NoneInService(f"ports {ports} refused")

    def give_back(self, port: int, connection: Connection) -> None:
        if connection.usable:
            self._idle.setdefault(port, []).append(connection)
        else:
            connection.close()

    def take_out(self, port: int) -> None:
        """Stops sending requests to this port."""
        self.ports.remove(port)
        for connection in self._idle.pop(port, []):
            connection.close()

    def put_in(self, port: int) -> None:
        self.ports.append(port)

    def close(self) -> None:
        """Closes idle connections."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
