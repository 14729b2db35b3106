"""The client of the engine tier: addresses, health, retries and the wait for an engine that starts.

What happens on the wire becomes either an `Answer` or one of our errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

from .connection import Connection, ConnectionBroken
from .errors import EngineFailed, EngineUnavailable
from .protocol import JsonObject
from .telemetry import EngineState, Telemetry

log = logging.getLogger("orchestrator.engine")

_RESENDS = 2
_IDLE_SECONDS = 60
_PROBE_SECONDS = 5
_PROBE_WHILE_DOWN_SECONDS = 0.25
_PROBE_AT_MOST_EVERY_SECONDS = 0.02


class StaleConnection(ConnectionBroken):
    """A kept connection that the engine closed while we wrote to it, as it may: a new one will do."""


@dataclass(eq=False, slots=True)
class Address:
    """One engine process: where it is, whether it answers, and what is under way on it."""

    host: str
    port: int
    server_name: str
    tls: ssl.SSLContext | None
    up: bool = True
    known: bool = False
    in_flight: int = 0
    missed: int = 0
    refuses_key: bool = False
    idle: list[Connection] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


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
            EngineFailed: the connection ended before the body did.
        """
        if self._body:
            body, self._body = self._body, b""
            return body
        try:
            return await self._connection.read()
        except ConnectionBroken as error:
            raise EngineFailed(
                f"The engine's connection broke before its answer was complete ({error})"
            ) from None

    def close(self) -> None:
        self.address.in_flight -= self.counted
        if self._connection.reusable:
            self._connection.idle_since = time.monotonic()
            self.address.idle.append(self._connection)
        else:
            self._connection.abort()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Engines:
    """Every engine behind the configured base URLs, as one."""

    def __init__(
        self,
        urls: Iterable[str],
        *,
        api_key: str | None,
        wait_seconds: float,
        connect_seconds: float,
        refresh_seconds: float,
        telemetry: Telemetry,
    ) -> None:
        self._urls = [urlsplit(url) for url in urls]
        self._wait_seconds = wait_seconds
        self._connect_seconds = connect_seconds
        self._refresh_seconds = refresh_seconds
        self._telemetry = telemetry
        authorization = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
        self._headers = f"{authorization}Content-Type: application/json\r\n".encode()
        self._tls = ssl.create_default_context() if any(url.scheme == "https" for url in self._urls) else None
        self.models: list[JsonObject] | None = None
        self._addresses: dict[tuple[str, str, int], Address] = {}
        self._came_up = asyncio.Event()
        self._probe_now = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Resolves the names once and keeps watching them."""
        await self._resolve()
        self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        if self._watcher:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        for address in self._addresses.values():
            _close_idle(address)

    def states(self) -> list[EngineState]:
        return [EngineState(a.label, a.up and a.known, a.in_flight) for a in self._addresses.values()]

    def why_not_ready(self) -> str | None:
        """None where an engine answers, else the reason."""
        ready = [a for a in self._addresses.values() if a.up and a.known]
        if ready and all(a.refuses_key for a in ready):
            return "The engine refuses the orchestrator's key: set VLLM_API_KEY to the engine's"
        if ready:
            return None
        names = ", ".join(url.netloc for url in self._urls)
        if not self._addresses:
            return (
                f"No address is known for {names}: the name does not resolve. "
                "Set VLLM_URL to the engine's address, such as http://vllm:8000"
            )
        return f"No engine answers at {names}: it is starting, or VLLM_URL is wrong"

    async def ask(
        self,
        path: str,
        body: bytes | None = None,
        *,
        request_id: str = "",
        whole: bool = True,
        prefer: Address | None = None,
    ) -> Answer:
        """Sends one request (POST with a body, else GET) and waits for the first piece of its answer.

        With `whole`, and for every answer that is no event stream, the body has been read to its end.
        Until then a connection that fails and a 503 are retried on another address, and where no
        engine answers the request waits for one.

        Raises:
            EngineUnavailable: none came up in time. EngineFailed: it broke off too often.
        """
        until = time.monotonic() + self._wait_seconds
        refused: set[Address] = set()
        resends = 0
        while True:
            address = self._choose(prefer, refused)
            if address is None:
                await self._wait_for_engine(until)
                refused.clear()
                continue
            address.in_flight += 1
            try:
                answer = await self._ask_once(address, path, body, request_id, whole=whole)
            except BaseException as error:
                address.in_flight -= 1
                if not isinstance(error, OSError | ConnectionBroken):
                    raise
                resends += isinstance(error, ConnectionBroken)
                if resends > _RESENDS:
                    raise EngineFailed(
                        f"The engine broke the connection {resends} times before it answered ({error})"
                    ) from None
                if isinstance(error, StaleConnection):
                    _close_idle(address)
                else:
                    self._mark_down(address, str(error))
            else:
                answer.counted = True
                refused.add(address)
                if answer.status != 503 or self._choose(None, refused) is None:
                    return answer
                answer.close()
            self._telemetry.engine_retried()

    async def _ask_once(
        self,
        address: Address,
        path: str,
        body: bytes | None = None,
        request_id: str = "",
        *,
        whole: bool = True,
    ) -> Answer:
        connection = None
        while address.idle and connection is None:
            connection = address.idle.pop()
            connection = None if connection.broken else connection
        reused = connection is not None
        try:
            connection = connection or await self._connect(address)
            return await _exchange(
                address, connection, self._request(address, path, body, request_id), whole=whole
            )
        except BaseException as error:
            if connection is not None:
                connection.abort()
                if reused and isinstance(error, ConnectionBroken) and not connection.answered:
                    raise StaleConnection(str(error)) from None
            raise

    def _request(self, address: Address, path: str, body: bytes | None, request_id: str) -> bytes:
        method = "GET" if body is None else "POST"
        identity = f"X-Request-Id: {request_id}\r\n" if request_id else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: {address.label}\r\n{identity}".encode() + self._headers
        if body is None:
            return head + b"\r\n"
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)

    async def _connect(self, address: Address) -> Connection:
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await Connection.open(
                    address.host, address.port, tls=address.tls, server_name=address.server_name
                )
        except TimeoutError:
            raise OSError(f"no connection within {self._connect_seconds} s") from None

    def _choose(self, prefer: Address | None, refused: set[Address]) -> Address | None:
        """The preferred address unless it is overloaded, else the least loaded one that is up."""
        up = [a for a in self._addresses.values() if a.up and a not in refused]
        if not up:
            return None
        if len(up) == 1:
            return up[0]
        # Bounded load: a preferred engine may have a quarter more than its share (Mirrokni et al. 2016).
        if prefer in up and prefer.in_flight <= 1.25 * sum(a.in_flight for a in up) / len(up) + 1:
            return prefer
        return min(up, key=lambda a: a.in_flight)

    async def _wait_for_engine(self, until: float) -> None:
        self._came_up.clear()
        self._probe_now.set()
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await self._came_up.wait()
        except TimeoutError:
            raise EngineUnavailable(
                f"{self.why_not_ready()}. Try again in a few seconds.", headers={"retry-after": "5"}
            ) from None

    def _mark_down(self, address: Address, reason: str) -> None:
        if address.up:
            log.warning("engine down", extra={"fields": {"engine": address.label, "reason": reason}})
        address.up = False
        address.known = True
        _close_idle(address)
        self._probe_now.set()

    def _mark_up(self, address: Address) -> None:
        if not address.up:
            log.info("engine up", extra={"fields": {"engine": address.label}})
        address.up = address.known = True
        address.missed = 0
        self._came_up.set()

    async def _watch(self) -> None:
        while True:
            await asyncio.gather(*(self._probe(address) for address in self._addresses.values()))
            self._probe_now.clear()
            steady = self._addresses and all(address.up for address in self._addresses.values())
            pause = self._refresh_seconds if steady else _PROBE_WHILE_DOWN_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(pause, self._refresh_seconds)):
                    await self._probe_now.wait()
                await asyncio.sleep(_PROBE_AT_MOST_EVERY_SECONDS)
            await self._resolve()

    async def _probe(self, address: Address) -> None:
        """Asks for /health and the models; two probes without an answer in time count as down."""
        _drop_old_idle(address)
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                with await self._ask_once(address, "/health") as health:
                    if health.status != 200:
                        self._mark_down(address, f"/health answered {health.status}")
                        return
                with await self._ask_once(address, "/v1/models") as models:
                    self._take_models(address, models.status, await models.read())
            self._mark_up(address)
        except TimeoutError:
            address.missed += 1
            if address.missed > 1:
                self._mark_down(address, f"no answer to /health within {_PROBE_SECONDS} s")
        except (OSError, ConnectionBroken) as error:
            self._mark_down(address, str(error))

    def _take_models(self, address: Address, status: int, body: bytes) -> None:
        if status in (401, 403) and not address.refuses_key:
            log.error("the engine refuses VLLM_API_KEY", extra={"fields": {"engine": address.label}})
        address.refuses_key = status in (401, 403)
        with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
            if status == 200:
                self.models = list(orjson.loads(body)["data"])

    async def _resolve(self) -> None:
        """Renews the addresses; a name that does not resolve keeps those it had."""
        found: dict[tuple[str, str, int], Address] = {}
        for url in self._urls:
            port = url.port or (443 if url.scheme == "https" else 80)
            name = url.hostname or ""
            try:
                hosts = await _lookup(name, port)
            except OSError as error:
                log.warning(
                    "engine name not resolved", extra={"fields": {"name": name, "reason": str(error)}}
                )
                found |= {key: a for key, a in self._addresses.items() if key[0] == url.netloc}
                continue
            for host in hosts:
                key = (url.netloc, host, port)
                found[key] = self._addresses.get(key) or Address(
                    host, port, name, self._tls if url.scheme == "https" else None
                )
        for key, address in self._addresses.items():
            if key not in found:
                _close_idle(address)
        self._addresses = found


async def _lookup(name: str, port: int) -> list[str]:
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(name))]
    loop = asyncio.get_running_loop()
    rows = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    # A and AAAA records of one name lead to the same engines: one family only.
    four = [str(row[4][0]) for row in rows if row[0] == socket.AF_INET]
    return list(dict.fromkeys(four or [str(row[4][0]) for row in rows]))


async def _exchange(address: Address, connection: Connection, request: bytes, *, whole: bool) -> Answer:
    connection.send(request)
    await connection.head()
    body = await connection.read()
    answer = Answer(address, connection, body)
    if (whole or not answer.is_stream) and not connection.complete:
        parts = [body]
        while piece := await connection.read():
            parts.append(piece)
        return Answer(address, connection, b"".join(parts))
    return answer


def _close_idle(address: Address) -> None:
    for connection in address.idle:
        connection.abort()
    address.idle.clear()


def _drop_old_idle(address: Address) -> None:
    oldest = time.monotonic() - _IDLE_SECONDS
    for connection in [c for c in address.idle if c.idle_since < oldest or c.broken]:
        address.idle.remove(connection)
        connection.abort()
