"""The address of one engine: its pool of connections and the HTTP exchanges with it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from ssl import SSLContext

from ..connection import Connection, ConnectionBroken
from ..errors import EngineBroke, EngineFailed
from ..memory import Budget, Share, answer_cost
from .affinity import hash_of

_IDLE_SECONDS = 60


class StaleConnection(ConnectionBroken):
    """The engine closed an idle connection, as it may, while we wrote to it. A new connection will work."""


class Address:
    """One engine's address, whether it answers, and how many requests it is serving.

    Attributes:
        up: False once the engine is known to be down.
        known: whether a probe or a request has confirmed `up`.
        in_flight: the number of clients' requests that the engine is serving, from `post` until the response
            is closed. This is the only place that counts them.
        key: the index of the key, and so of the headers, in use. There are two during a rotation.
        models_at, status_at: when the engine's models, or the steps of its start, were last requested, on
            the monotonic clock.
        seed: a hash of the address, by which requests are divided among engines.
        gone: the name no longer resolves to this address, so its connections are not kept.
        probe_now: set this to probe the engine at once.

    Args:
        authority: host and port as in the engine's URL, for the Host header.
        name: the host's name, for TLS.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        authority: str,
        name: str,
        tls: SSLContext | None,
        connect_seconds: float,
        headers: tuple[bytes, ...],
        budget: Budget,
        max_answer_bytes: int,
    ) -> None:
        self.label = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.seed = hash_of(self.label)
        self.up = True
        self.known = False
        self.refuses_key = False
        self.key = 0
        self.gone = False
        self.in_flight = 0
        self.missed_probes = 0
        self.models_at = -math.inf
        self.status_at = -math.inf
        self.asked_for_tokens = False
        self.probe_now = asyncio.Event()
        self.idle: list[Connection] = []
        self._active: set[Connection] = set()
        self._host = host
        self._port = port
        self._name = name
        self._tls = tls
        self._connect_seconds = connect_seconds
        self._budget = budget
        self._max_answer_bytes = max_answer_bytes
        self._authority = authority.encode("ascii" if authority.isascii() else "idna")
        host_header = b"Host: %b\r\n" % self._authority
        self._headers = tuple(host_header + one for one in headers)

    def use_other_key(self, rejected: int) -> bool:
        """Changes to the next key unless another request already has. Returns False if there is only one."""
        if self.key == rejected:
            self.key = (rejected + 1) % len(self._headers)
        return len(self._headers) > 1

    def without_origin(self, location: bytes) -> bytes:
        """Returns a redirect's target without this engine's own origin, which clients may not reach."""
        for scheme in (b"http://", b"https://"):
            origin = scheme + self._authority
            rest = location.removeprefix(origin)
            if rest != location and (not rest or rest.startswith((b"/", b"?"))):
                return rest or b"/"
        return location

    async def post(
        self, path: str, body: bytes, identity: str = "", *, whole: bool = True, content_type: bytes = b""
    ) -> Response:
        """Sends a client's request and waits for the first part of the response's body.

        `identity` has the header lines that identify the request; `content_type` is that of a body that is
        not JSON.

        If `whole` is set or the response is not an event stream, this reads the complete body.

        Raises:
            OSError: the connection could not be opened. ConnectionBroken: it broke during the exchange.
        """
        head = f"POST {path} HTTP/1.1\r\n{identity}".encode() + self._headers[self.key]
        kind = content_type or b"application/json"
        request = b"%bContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (head, kind, len(body), body)
        self.in_flight += 1
        try:
            return await self._exchange(request, self._end_post, whole=whole)
        except BaseException:
            self.in_flight -= 1
            raise

    async def get(self, path: str, *, port: int = 0) -> Response:
        """Sends one of our own requests, which does not count as in flight, and reads the whole response.

        Args:
            port: another port of the engine's host, without TLS and without the engine's key.

        Raises:
            OSError: the connection could not be opened. ConnectionBroken: it broke during the exchange.
        """
        if port:
            request = f"GET {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n".encode()
            return await self._exchange(request, self._drop, whole=True, port=port)
        request = f"GET {path} HTTP/1.1\r\n".encode() + self._headers[self.key] + b"\r\n"
        return await self._exchange(request, self._keep, whole=True)

    async def _exchange(
        self, request: bytes, release: Callable[[Connection], None], *, whole: bool, port: int = 0
    ) -> Response:
        connection = None if port else self._kept()
        reused = connection is not None
        share = Share(self._budget)
        try:
            connection = connection or await self._connect(port)
            self._active.add(connection)
            connection.send(request)
            await connection.head()
            first = await connection.read()
            response = Response(connection, first, release, share)
            if (whole or not response.is_stream) and not connection.complete:
                response = Response(connection, await self._rest(connection, first, share), release, share)
            return response
        except BaseException as error:
            share.resize(0)
            if connection is not None:
                self._active.discard(connection)
                connection.abort()
                stale = reused and not connection.answered and not connection.given_up
                if stale and isinstance(error, ConnectionBroken):
                    raise StaleConnection(str(error)) from None
            raise

    def _end_post(self, connection: Connection) -> None:
        self.in_flight -= 1
        self._keep(connection)

    def _keep(self, connection: Connection) -> None:
        """Keeps a connection for the next request, or closes it if it cannot be reused."""
        self._active.discard(connection)
        if connection.reusable and not self.gone:
            connection.idle_since = time.monotonic()
            self.idle.append(connection)
        else:
            connection.abort()

    def _drop(self, connection: Connection) -> None:
        self._active.discard(connection)
        connection.abort()

    def heard_since(self, moment: float) -> bool:
        """Returns whether the engine has sent anything since then, on the event loop's clock."""
        return any(one.answered and one.heard > moment for one in (*self._active, *self.idle))

    def give_up_waiting(self, silent_since: float, *, another_is_up: bool) -> None:
        """Breaks the connections of requests that should no longer wait for this engine, which is down.

        Args:
            silent_since: a moment on the event loop's clock. Whatever the engine has not sent anything to
                since then is given up.
            another_is_up: whether another engine can take the requests whose answer has not begun.
        """
        for connection in list(self._active):
            waits = not connection.answered
            if (waits and another_is_up) or (connection.heard < silent_since and not connection.paused):
                connection.give_up()

    def drop_idle(self, older_than: float = 0.0) -> None:
        """Closes idle connections that have not been used for `older_than` seconds."""
        before = time.monotonic() - older_than
        for connection in [kept for kept in self.idle if kept.broken or kept.idle_since <= before]:
            self.idle.remove(connection)
            connection.abort()

    def drop_old(self) -> None:
        self.drop_idle(_IDLE_SECONDS)

    async def _rest(self, connection: Connection, first: bytes, share: Share) -> bytes:
        """Returns the whole body, which starts with `first`."""
        parts, size = [first], len(first)
        while piece := await connection.read():
            size += len(piece)
            if size > self._max_answer_bytes:
                raise EngineFailed(
                    f"The engine's answer has more than {self._max_answer_bytes:,} bytes (MAX_ANSWER_BYTES)"
                )
            share.resize(2 * size)  # it is joined at the end
            parts.append(piece)
        body = b"".join(parts)
        share.resize(answer_cost(body))
        return body

    def _kept(self) -> Connection | None:
        while self.idle:
            connection = self.idle.pop()
            # An unread answer belongs to an earlier request: the next one must not be taken for its own.
            if not connection.broken and not connection.has_unread_data():
                return connection
            connection.abort()
        return None

    async def _connect(self, port: int) -> Connection:
        tls = None if port else self._tls
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await Connection.open(self._host, port or self._port, tls=tls, server_name=self._name)
        except TimeoutError:
            raise OSError(f"could not connect within {self._connect_seconds:g} s") from None


class Response:
    """An engine's HTTP response. Use it as a context manager: `close` returns its connection to the pool."""

    __slots__ = (
        "_body", "_connection", "_release", "_share", "content_type", "location", "retry_after", "status",
    )  # fmt: skip

    def __init__(
        self, connection: Connection, body: bytes, release: Callable[[Connection], None], share: Share
    ) -> None:
        self.status = connection.status
        self.content_type = connection.content_type
        self.location = connection.location
        self.retry_after = connection.retry_after
        self._body = body
        self._connection = connection
        self._release = release
        self._share = share

    @property
    def is_stream(self) -> bool:
        return self.status == 200 and self.content_type.startswith(b"text/event-stream")

    @property
    def framed(self) -> bool:
        """Whether the body has a known end, so that a part of it cannot be taken for the whole."""
        return self._connection.framed

    @property
    def complete(self) -> bool:
        """Whether the whole body has arrived."""
        return self._connection.complete

    async def read(self) -> bytes:
        """Returns the bytes that have arrived since the last read, or `b""` at the end of the body.

        A body that was read whole is returned at once.

        Raises:
            EngineBroke: the connection broke before the body was complete.
        """
        if self._body:
            body, self._body = self._body, b""
            return body
        try:
            return await self._connection.read()
        except ConnectionBroken as error:
            raise EngineBroke(
                f"The connection to the engine broke before its answer was complete ({error})"
            ) from None

    def close(self) -> None:
        self._share.resize(0)
        self._release(self._connection)

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
