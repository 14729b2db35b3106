"""The way of a POST request: key, body, limits, handler, and one answer whatever happens."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl

from ..errors import ApiError, CallerError, DeadlineExceeded, InvalidRequest
from ..settings import Settings
from ..telemetry import Record, Telemetry
from .auth import Keys
from .in_flight import InFlight
from .reply import Header, Reply

log = logging.getLogger("orchestrator.api")

CLIENT_GONE = 499  # nginx's status for a client that closed its connection
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


@dataclass(slots=True)
class Request:
    """A request whose key and size have been checked. Header names are lower case."""

    path: str
    headers: dict[bytes, bytes]
    body: bytes
    record: Record


Handler = Callable[[Request, Reply], Awaitable[None]]


def request_id(headers: dict[bytes, bytes]) -> str:
    """The client's x-request-id where it is fit for a log line, else a new one."""
    given = headers.get(b"x-request-id")
    if given and _REQUEST_ID.fullmatch(given):
        return given.decode("latin-1")
    return f"{random.getrandbits(128):032x}"


class Endpoint:
    """Serves POST on one route with `handler`."""

    def __init__(
        self,
        route: str,
        handler: Handler,
        *,
        settings: Settings,
        keys: Keys,
        in_flight: InFlight,
        telemetry: Telemetry,
    ) -> None:
        self.route = route
        self.handler = handler
        self.keys = keys
        self.in_flight = in_flight
        self.telemetry = telemetry
        self.max_body_bytes = settings.max_body_bytes
        self.body_seconds = min(settings.body_timeout_seconds, settings.request_timeout_seconds)
        self.request_seconds = settings.request_timeout_seconds
        self.heartbeat_seconds = settings.heartbeat_seconds
        self._general: tuple[list[Header], bytes] = ([], b"")

    def admit(self, method: bytes, headers: dict[bytes, bytes]) -> str:
        """The name of the request's key.

        Raises:
            ApiError: the method, the key or the announced size is refused.
        """
        if method != b"POST":
            raise CallerError(
                f"{method.decode()} is not allowed on {self.route}; use POST",
                status=405,
                code="method_not_allowed",
                headers={"allow": "POST"},
            )
        name = self.keys.check(headers)
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self.max_body_bytes:
            raise self.too_large(int(length))
        return name

    def general_headers(self, headers: list[Header]) -> bytes:
        """The header lines that every answer has; uvicorn makes the list anew as the date changes."""
        if headers is not self._general[0]:
            self._general = headers, b"".join([b"%b: %b\r\n" % header for header in headers])
        return self._general[1]

    def too_large(self, size: int) -> ApiError:
        return InvalidRequest(
            f"The request body has at least {size} bytes; at most {self.max_body_bytes} are taken "
            "(MAX_BODY_BYTES). Send less.",
            status=413,
            code="request_too_large",
        )

    def body_too_late(self) -> ApiError:
        return InvalidRequest(
            f"The request body did not arrive within {self.body_seconds:g} s (BODY_TIMEOUT_SECONDS).",
            status=408,
            code="request_timeout",
            headers={"connection": "close"},
        )

    def answer_too_late(self) -> ApiError:
        return DeadlineExceeded(
            f"The answer was not complete within {self.request_seconds:g} s (REQUEST_TIMEOUT_SECONDS). "
            "Ask for fewer tokens or raise the limit."
        )


class ClientConnection(Protocol):
    """What an exchange needs of the connection that its request came on."""

    transport: asyncio.Transport
    flow: FlowControl
    loop: asyncio.AbstractEventLoop

    def on_response_complete(self) -> None:
        """The exchange has ended: the next request may start."""


class Exchange:
    """One request on its connection, from its headers to the end of its answer, which this object alone ends.

    Stands where uvicorn's protocol has its cycle, of which it reads `response_complete` and sets
    `keep_alive`.
    """

    __slots__ = (
        "_begun", "_connection", "_endpoint", "_expects_continue", "_headers", "_method", "_parts", "_reason",
        "_record", "_reply", "_size", "_started", "_task", "_whole_body",
    )  # fmt: skip

    def __init__(
        self,
        endpoint: Endpoint,
        connection: ClientConnection,
        *,
        method: bytes,
        headers: dict[bytes, bytes],
        keep_alive: bool,
        chunked: bool,
        expects_continue: bool,
        general_headers: bytes,
    ) -> None:
        self._endpoint = endpoint
        self._connection = connection
        self._method = method
        self._headers = headers
        self._expects_continue = expects_continue
        self._parts: list[bytes] = []
        self._size = 0
        self._whole_body = False
        self._started = False
        self._begun = 0.0
        self._task: asyncio.Task[None] | None = None
        self._reason: ApiError | None = None
        self._record = Record(request_id(headers), endpoint.route)
        self._reply = Reply(
            connection.transport,
            connection.flow,
            self._record.request_id,
            in_flight=endpoint.in_flight,
            general_headers=general_headers,
            keep_alive=keep_alive,
            chunked=chunked,
            head_only=method == b"HEAD",
            heartbeat_seconds=endpoint.heartbeat_seconds,
            loop=connection.loop,
        )

    @property
    def response_complete(self) -> bool:
        return self._reply.finished

    @property
    def keep_alive(self) -> bool:
        return self._reply.keep_alive

    @keep_alive.setter
    def keep_alive(self, value: bool) -> None:
        self._reply.keep_alive = value

    def start(self) -> None:
        """Begins once the headers are there and the connection's earlier answer has ended."""
        endpoint, loop = self._endpoint, self._connection.loop
        self._started = True
        self._begun = loop.time()
        try:
            self._record.key_name = endpoint.admit(self._method, self._headers)
            endpoint.in_flight.enter(self)
        except ApiError as error:
            self._fail(error)
            self._finish()
            return
        if self._size > endpoint.max_body_bytes:
            self.end(endpoint.too_large(self._size))
        elif self._whole_body:
            self._task = loop.create_task(self._serve())
        elif self._expects_continue:
            self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def feed(self, part: bytes) -> None:
        """A part of the body has come."""
        if self._reply.finished:
            return
        self._parts.append(part)
        self._size += len(part)
        if self._size > self._endpoint.max_body_bytes and self._started:
            self.end(self._endpoint.too_large(self._size))

    def feed_end(self) -> None:
        """The body is whole."""
        self._whole_body = True
        if self._started and not self._reply.finished:
            self._task = self._connection.loop.create_task(self._serve())

    def end(self, reason: ApiError) -> None:
        """Ends the request from outside; what has not been told of it yet ends with this error."""
        if self._reason is not None or self._reply.finished:
            return
        self._reason = reason
        if self._task is not None:
            self._task.cancel()
        else:
            self._fail(reason)
            self._finish()

    @property
    def deadline(self) -> float:
        """Of the body, and once that has come, of the answer."""
        endpoint = self._endpoint
        return self._begun + (endpoint.request_seconds if self._whole_body else endpoint.body_seconds)

    def end_late(self) -> None:
        """The deadline has passed."""
        endpoint = self._endpoint
        self.end(endpoint.answer_too_late() if self._whole_body else endpoint.body_too_late())

    def lost(self) -> None:
        """The connection is gone."""
        if not self._started or self._reply.finished:
            return
        self._reply.abandon()
        self._record.status, self._record.error = CLIENT_GONE, "the client closed its connection"
        if self._task is not None:
            self._task.cancel()
        else:
            self._finish()

    async def _serve(self) -> None:
        """Runs the handler. Cancelled by `end` and `lost` only, or when the event loop is torn down."""
        record, reply = self._record, self._reply
        parts, self._parts = self._parts, []
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        try:
            await self._endpoint.handler(Request(self._endpoint.route, self._headers, body, record), reply)
            reply.end()
            record.status = record.status or reply.status
        except ApiError as error:
            self._fail(error)
        except asyncio.CancelledError:
            if self._reason is not None:
                self._fail(self._reason)
                if self._connection.flow.write_paused:
                    self._connection.transport.abort()  # the client does not read: it would hold its socket
            elif record.status != CLIENT_GONE:
                raise
        except Exception:
            log.exception("unexpected error", extra={"fields": {"request_id": record.request_id}})
            self._fail(ApiError(f"The server failed unexpectedly; its log tells of {record.request_id}"))
            record.error = "unexpected error"
        finally:
            self._finish()

    def _fail(self, error: ApiError) -> None:
        if not self._reply.finished:
            self._record.status, self._record.error = error.status, error.message
            self._reply.fail(error)

    def _finish(self) -> None:
        reply, connection = self._reply, self._connection
        self._endpoint.in_flight.leave(self)
        self._endpoint.telemetry.finished(self._record)
        if not reply.finished or not reply.keep_alive:
            reply.abandon()
            connection.transport.close()
        connection.on_response_complete()
