"""The way of a POST request: key, body, limits, handler, and one answer whatever happens. Raw ASGI."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from ..errors import ApiError, CallerError, DeadlineExceeded, InvalidRequest
from ..settings import Settings
from ..telemetry import Record, Telemetry
from .auth import Keys
from .in_flight import ClientGone, InFlight, Slot
from .reply import Reply, Send

log = logging.getLogger("orchestrator.api")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

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
    given = headers.get(b"x-request-id", b"")
    return given.decode("latin-1") if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


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
        self._route = route
        self._handler = handler
        self._keys = keys
        self._in_flight = in_flight
        self._telemetry = telemetry
        self._max_body_bytes = settings.max_body_bytes
        self._body_seconds = settings.body_timeout_seconds
        self._request_seconds = settings.request_timeout_seconds
        self._heartbeat_seconds = settings.heartbeat_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        record = Record(request_id(headers), self._route)
        reply = Reply(
            send,
            record.request_id,
            closing=lambda: self._in_flight.draining,
            heartbeat_seconds=self._heartbeat_seconds,
        )
        try:
            await self._admit(scope, headers, receive, reply, record)
            record.status = reply.status
        except ApiError as error:
            record.status, record.error = error.status, error.message
            await reply.fail(error)
        except ClientGone:
            record.status, record.error = CLIENT_GONE, "the client closed its connection"
        except Exception:
            log.exception("unexpected error", extra={"fields": {"request_id": record.request_id}})
            record.status, record.error = 500, "unexpected error"
            await reply.fail(
                ApiError(f"The server failed unexpectedly; its log tells of {record.request_id}")
            )
        finally:
            reply.close()
            self._telemetry.finished(record)

    async def _admit(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, reply: Reply, record: Record
    ) -> None:
        if scope["method"] != "POST":
            raise CallerError(
                f"{scope['method']} is not allowed on {self._route}; use POST",
                status=405,
                code="method_not_allowed",
                headers={"allow": "POST"},
            )
        record.key_name = self._keys.check(headers)
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._max_body_bytes:
            raise self._too_large(int(length))
        task = asyncio.current_task()
        assert task is not None
        slot = self._in_flight.enter(task)
        try:
            await self._serve(Request(scope["path"], headers, b"", record), receive, reply, slot)
        except asyncio.CancelledError:
            if slot.reason is None:
                raise
            task.uncancel()
            raise slot.reason from None
        finally:
            self._in_flight.leave(slot)

    async def _serve(self, request: Request, receive: Receive, reply: Reply, slot: Slot) -> None:
        """Reads the body and runs the handler, each within its time, watching the client."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        watcher = None
        try:
            async with asyncio.timeout_at(begun + self._body_seconds) as deadline:
                request.body = await self._read_body(receive)
                deadline.reschedule(begun + self._request_seconds)
                watcher = loop.create_task(_watch_client(receive, reply, slot))
                await self._handler(request, reply)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise self._too_late(reading=watcher is None) from None
        finally:
            if watcher is not None:
                watcher.cancel()

    async def _read_body(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > self._max_body_bytes:
                raise self._too_large(size)
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self, size: int) -> ApiError:
        return InvalidRequest(
            f"The request body has at least {size} bytes; at most {self._max_body_bytes} are taken "
            "(MAX_BODY_BYTES). Send less.",
            status=413,
            code="request_too_large",
        )

    def _too_late(self, *, reading: bool) -> ApiError:
        if reading:
            return InvalidRequest(
                f"The request body did not arrive within {self._body_seconds:g} s (BODY_TIMEOUT_SECONDS).",
                status=408,
                code="request_timeout",
                headers={"connection": "close"},
            )
        return DeadlineExceeded(
            f"The answer was not complete within {self._request_seconds:g} s (REQUEST_TIMEOUT_SECONDS). "
            "Ask for fewer tokens or raise the limit."
        )


async def _watch_client(receive: Receive, reply: Reply, slot: Slot) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if not reply.finished:
        slot.end(ClientGone())
