"""One engine process: its kept connections, and one exchange with it."""

from __future__ import annotations

import asyncio
import time
from ssl import SSLContext

from ..errors import EngineFailed
from .connection import Connection, ConnectionBroken

_IDLE_SECONDS = 60


class StaleConnection(ConnectionBroken):
    """A kept connection that the engine closed while we wrote to it, as it may: a new one will do."""


class EngineBroke(EngineFailed):
    """The engine's connection ended in the middle of an answer."""


class Address:
    """Where one engine is, whether it answers, and what is under way on it.

    Attributes:
        up: it is not known to be down; `known` tells whether that has been seen.
        in_flight: requests of clients under way.
        gone: the name does not resolve to it any more; its connections are not kept.
        probe_now: set to have it probed at once.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        name: str,
        tls: SSLContext | None,
        connect_seconds: float,
        headers: bytes,
    ) -> None:
        self.label = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.up = True
        self.known = False
        self.refuses_key = False
        self.gone = False
        self.in_flight = 0
        self.missed_probes = 0
        self.probe_now = asyncio.Event()
        self.idle: list[Connection] = []
        self._host = host
        self._port = port
        self._name = name
        self._tls = tls
        self._connect_seconds = connect_seconds
        self._headers = f"Host: {self.label}\r\n".encode() + headers

    async def exchange(
        self, path: str, body: bytes | None = None, request_id: str = "", *, whole: bool = True
    ) -> Answer:
        """Sends one request (POST with a body, else GET) and waits for the first piece of its answer.

        With `whole`, and for every answer that is no event stream, the body has been read to its end.

        Raises:
            OSError: no connection. ConnectionBroken: it ended first.
        """
        connection = self._kept()
        reused = connection is not None
        try:
            connection = connection or await self._connect()
            connection.send(self._request(path, body, request_id))
            await connection.head()
            first = await connection.read()
            answer = Answer(self, connection, first)
            if (whole or not answer.is_stream) and not connection.complete:
                answer = Answer(self, connection, first + await _rest(connection))
            return answer
        except BaseException as error:
            if connection is not None:
                connection.abort()
                if reused and isinstance(error, ConnectionBroken) and not connection.answered:
                    raise StaleConnection(str(error)) from None
            raise

    def keep(self, connection: Connection) -> None:
        """Takes a connection back, if another request can go over it."""
        if connection.reusable and not self.gone:
            connection.idle_since = time.monotonic()
            self.idle.append(connection)
        else:
            connection.abort()

    def drop_idle(self, older_than: float = 0.0) -> None:
        """Closes the kept connections that have not been used for so many seconds."""
        before = time.monotonic() - older_than
        for connection in [kept for kept in self.idle if kept.broken or kept.idle_since <= before]:
            self.idle.remove(connection)
            connection.abort()

    def drop_old(self) -> None:
        self.drop_idle(_IDLE_SECONDS)

    def _kept(self) -> Connection | None:
        while self.idle:
            connection = self.idle.pop()
            if not connection.broken:
                return connection
        return None

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await Connection.open(self._host, self._port, tls=self._tls, server_name=self._name)
        except TimeoutError:
            raise OSError(f"no connection within {self._connect_seconds:g} s") from None

    def _request(self, path: str, body: bytes | None, request_id: str) -> bytes:
        method = "GET" if body is None else "POST"
        identity = f"X-Request-Id: {request_id}\r\n" if request_id else ""
        head = f"{method} {path} HTTP/1.1\r\n{identity}".encode() + self._headers
        if body is None:
            return head + b"\r\n"
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


class Answer:
    """An engine's answer. `close` keeps or drops its connection; use it as a context manager."""

    __slots__ = ("_body", "_connection", "address", "content_type", "counted", "retry_after", "status")

    def __init__(self, address: Address, connection: Connection, body: bytes) -> None:
        self.address = address
        self.status = connection.status
        self.content_type = connection.content_type
        self.retry_after = connection.retry_after
        self.counted = False
        self._body = body
        self._connection = connection

    @property
    def is_stream(self) -> bool:
        return self.status == 200 and self.content_type.startswith(b"text/event-stream")

    async def read(self) -> bytes:
        """What has come since the last read; `b""` at the end. A whole answer comes in one piece.

        Raises:
            EngineBroke: the connection ended before the body did.
        """
        if self._body:
            body, self._body = self._body, b""
            return body
        try:
            return await self._connection.read()
        except ConnectionBroken as error:
            raise EngineBroke(
                f"The engine's connection broke before its answer was complete ({error})"
            ) from None

    def close(self) -> None:
        self.address.in_flight -= self.counted
        self.counted = False
        self.address.keep(self._connection)

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


async def _rest(connection: Connection) -> bytes:
    parts = []
    while piece := await connection.read():
        parts.append(piece)
    return b"".join(parts)
