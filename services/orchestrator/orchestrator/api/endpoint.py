"""The path of every request: key, method, limits, handler, and exactly one answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from ..errors import ApiError, CallerError, DeadlineExceeded, InvalidRequest
from ..limits.accounts import Account, Accounts, Ticket
from ..limits.usage import Usage
from ..memory import Share
from ..settings import Settings
from ..telemetry import Record, Telemetry
from .auth import Keys
from .body import too_large
from .cors import Cors
from .encoding import coding_of, decoded
from .error_format import OPENAI_ERRORS, ErrorFormat
from .head import Head
from .identity import request_id, trace_context
from .in_flight import InFlight
from .reply import Client, Reply
from .request import Handler, Request

log = logging.getLogger("orchestrator.api")

_MAX_OTHER_BODY_BYTES = 16_384
CLIENT_GONE = 499  # nginx's status for a client that closed its connection


class Tracer(Protocol):
    """Gives a request that is traced another record."""

    def record(self, record: Record, method: bytes) -> Record: ...


class Endpoint:
    """Serves one route with `handler`.

    Args:
        route: the path, which is also the route's name in metrics.
        methods: the methods that the handler supports.
        needs_key: whether clients need a key.
        limited: whether requests count towards MAX_IN_FLIGHT and may have bodies of up to MAX_BODY_BYTES.
        quiet: log only failures, for routes that load balancers and others request every few seconds.
        tracer: chooses which requests are traced, of those that are limited and not quiet.
        is_form: whether the bodies are forms with files. If not, they are JSON.
        errors: the format of errors.
    """

    def __init__(
        self,
        route: str,
        handler: Handler,
        *,
        settings: Settings,
        keys: Keys,
        accounts: Accounts,
        usage: Usage,
        in_flight: InFlight,
        telemetry: Telemetry,
        tracer: Tracer | None = None,
        methods: Sequence[bytes] = (b"POST",),
        needs_key: bool = True,
        limited: bool = True,
        quiet: bool = False,
        is_form: bool = False,
        errors: ErrorFormat = OPENAI_ERRORS,
    ) -> None:
        self.route = route
        self.handler = handler
        self.accounts = accounts
        self._usage = usage
        self.in_flight = in_flight
        self.limited = limited
        self.is_form = is_form
        self.errors = errors
        self.tracer = tracer if limited and not quiet else None
        self.max_body_bytes = settings.max_body_bytes if limited else _MAX_OTHER_BODY_BYTES
        self.heartbeat_seconds = settings.heartbeat_seconds
        self.max_values = settings.max_json_values
        self.cors = Cors(settings.cors_origins) if settings.cors_origins else None
        self._keys = keys
        self._telemetry = telemetry
        self._methods = tuple(methods)
        self._needs_key = needs_key
        self._quiet = quiet
        self._body_seconds = min(settings.body_timeout_seconds, settings.request_timeout_seconds)
        self._request_seconds = settings.request_timeout_seconds

    def admit(self, head: Head) -> Account | None:
        """Returns the account of the request's key, or None if the route needs no key.

        Raises:
            ApiError: the method, the key, the announced size or the encoding is not accepted.
        """
        if self._methods and head.method not in self._methods:
            allowed = b", ".join(self._methods).decode()
            raise CallerError(
                f"{head.method.decode()} is not allowed on {self.route}; use {allowed}",
                status=405,
                code="method_not_allowed",
                headers={"allow": allowed},
            )
        account = self._keys.check(head.headers) if self._needs_key else None
        length = head.headers.get(b"content-length", b"").strip(b" \t")
        if length.isdigit() and int(length) > self.max_body_bytes:
            raise too_large(int(length), self.max_body_bytes)
        if b"content-encoding" in head.headers:
            coding_of(head)
        return account

    def finished(self, record: Record, ticket: Ticket | None) -> None:
        """Counts a request that has ended."""
        if ticket is not None:
            self._usage.count(record)
            self.accounts.leave(ticket, record.tokens)
        self._telemetry.finished(record, quiet=self._quiet and record.status < 400)
        if record.traced:
            record.end_trace()

    def body_too_late(self) -> ApiError:
        return InvalidRequest(
            f"The request body did not arrive within {self._body_seconds:g} s (BODY_TIMEOUT_SECONDS).",
            status=408,
            code="request_timeout",
        )

    def answer_too_late(self) -> ApiError:
        return DeadlineExceeded(
            f"The answer was not complete within {self._request_seconds:g} s (REQUEST_TIMEOUT_SECONDS). "
            "Request fewer tokens or raise the limit."
        )


class ClientConnection(Client, Protocol):
    """The interface of a connection for its exchanges."""

    def abort(self) -> None: ...

    def answered(self, *, keep_alive: bool, body_whole: bool) -> None: ...


class Exchange:
    """One request and its answer on a connection.

    Attributes:
        body_whole: whether the whole request has arrived.
    """

    __slots__ = (
        "_account", "_connection", "_endpoint", "_extended", "_finished", "_head", "_reason", "_record",
        "_reply", "_share", "_task", "_ticket", "begun", "body_whole",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, connection: ClientConnection, head: Head) -> None:
        self.body_whole = False
        self.begun = connection.loop.time()
        self._endpoint = endpoint
        self._connection = connection
        self._head = head
        self._task: asyncio.Task[None] | None = None
        self._reason: ApiError | None = None
        self._finished = False
        self._extended = 0.0
        self._account: Account | None = None
        self._ticket: Ticket | None = None
        self._share = Share(endpoint.in_flight.budget)
        self._record = Record(request_id(head.headers), endpoint.route)
        if b"traceparent" in head.headers:
            self._record.traceparent, self._record.tracestate = trace_context(head.headers)
        if endpoint.tracer is not None:
            self._record = endpoint.tracer.record(self._record, head.method)
        self._reply = Reply(
            connection,
            self._record.request_id,
            in_flight=endpoint.in_flight,
            keep_alive=head.keep_alive,
            chunked=head.http_1_1,
            head_only=head.method == b"HEAD",
            lines=(endpoint.cors.lines(head) if endpoint.cors else b"")
            + endpoint.errors.lines(self._record.request_id),
            heartbeat_seconds=endpoint.heartbeat_seconds,
            errors=endpoint.errors,
        )

    def admit(self, problem: ApiError | None = None) -> bool:
        """Returns whether the request was admitted. If not, this has sent an error.

        Args:
            problem: an error in the body, which is only reported to clients with a valid key.
        """
        try:
            account = self._endpoint.admit(self._head)
            self._account = account
            if account is not None:
                self._record.key_name = account.name
                self._record.permitted_tools = account.limits.tools
            if problem is not None:
                raise problem
            if account is None or not self._endpoint.limited:
                self._endpoint.in_flight.enter(self, limited=self._endpoint.limited)
            else:
                self._enter(account)
        except ApiError as error:
            self._fail(error)
            self._finish()
        return not self._finished

    def _enter(self, account: Account) -> None:
        """Counts the request towards the limits of the server and of its key."""
        accounts, in_flight = self._endpoint.accounts, self._endpoint.in_flight
        in_flight.enter(self, held=account.in_flight if accounts.several else 0)
        try:
            self._ticket = accounts.enter(account)
        finally:
            self._reply.lines += accounts.lines(account)

    def hold(self, size: int) -> None:
        """Checks the size of a body that is still arriving.

        Raises:
            Overloaded: the memory of all requests is used up.
        """
        self._share.resize(self._share.size + size)

    def serve(self, body: bytes) -> None:
        """Runs the handler with the whole body."""
        self.body_whole = True
        self._task = self._connection.loop.create_task(self._serve(body))

    def end(self, reason: ApiError) -> None:
        """Ends the request from outside. A client whose answer is incomplete gets this error."""
        if self._reason is not None or self._reply.finished:
            return
        self._reason = reason
        if self._task is not None:
            self._task.cancel()
        else:
            self._fail(reason)
            self._finish()

    def take_extension(self) -> float:
        """Returns how long the request has waited for an engine to start since the last call.

        That time does not count towards its deadline.
        """
        held = self._record.held_seconds
        extension, self._extended = held - self._extended, held
        return extension

    def end_late(self) -> None:
        """Ends the request because its body or, after that, its answer took too long."""
        endpoint = self._endpoint
        self.end(endpoint.answer_too_late() if self.body_whole else endpoint.body_too_late())

    def lost(self) -> None:
        """Handles that the client has left."""
        if self._reply.finished:
            return
        self._reply.abandon()
        self._record.status, self._record.error = CLIENT_GONE, "the client closed its connection"
        if self._task is not None:
            self._task.cancel()
        else:
            self._finish()

    async def _serve(self, body: bytes) -> None:
        """Runs the handler. Only `end`, `lost` and the shutdown of the event loop cancel this."""
        record, reply, head = self._record, self._reply, self._head
        try:
            if self._endpoint.limited:
                if b"content-encoding" in head.headers:
                    body = await self._decode(body)
                if self._endpoint.is_form:
                    self._share.resize_for_file(body)
                else:
                    self._share.resize_for(body, self._endpoint.max_values)
            accounts, ticket, is_form = self._endpoint.accounts, self._ticket, self._endpoint.is_form
            prompt = 0 if is_form else len(body)
            if ticket is not None and not accounts.reserve(ticket, prompt):
                await accounts.wait(ticket, prompt)
            route, share, account = self._endpoint.route, self._share, self._account
            request = Request(
                route, head.headers, body, record, head, share, accounts, account, ticket, is_form
            )
            body = b""  # the request's to free
            await self._endpoint.handler(request, reply)
            reply.end()
            record.status = record.status or reply.status
        except ApiError as error:
            self._fail(error)
        except asyncio.CancelledError:
            if self._reason is not None:
                self._fail(self._reason)
            elif record.status != CLIENT_GONE:
                raise
        except Exception:  # noqa: BLE001 (logged with its traceback)
            self._fail_unexpectedly()
        finally:
            self._finish()

    async def _decode(self, body: bytes) -> bytes:
        """Decodes a compressed body, and holds the memory for it while it grows."""
        coding = coding_of(self._head)
        if not coding:
            return body
        parts = []
        for part in decoded(body, coding, self._endpoint.max_body_bytes):
            parts.append(part)
            self.hold(2 * len(part))  # once as a part, once in the whole body
            await asyncio.sleep(0)  # other requests go on
        return b"".join(parts)

    def _fail(self, error: ApiError) -> None:
        if self._reply.finished:
            return
        self._record.status, self._record.error = error.status, error.message
        self._record.error_code = str(error.code)
        if not self.body_whole:
            self._reply.keep_alive = False
        try:
            self._reply.fail(error)
        except Exception:  # noqa: BLE001 (logged with its traceback)
            self._fail_unexpectedly()

    def _fail_unexpectedly(self) -> None:
        """Must be called inside `except`. If the reply cannot be written, `_finish` aborts it."""
        record = self._record
        log.exception("unexpected error", extra={"fields": {"request_id": record.request_id}})
        record.status, record.error = 500, "unexpected error"
        if not self._reply.finished:
            text = f"The server failed unexpectedly; its log has details for request {record.request_id}"
            try:
                self._reply.fail(ApiError(text))
            except Exception:
                log.exception("the error could not be written either")

    def _finish(self) -> None:
        """Ends the exchange. This runs last, whatever happened."""
        if self._finished:
            return
        self._finished = True
        self._share.resize(0)
        reply, connection = self._reply, self._connection
        self._endpoint.in_flight.leave(self)
        record = self._record
        record.answered()
        try:
            self._endpoint.finished(record, self._ticket)
        except Exception:
            log.exception("the request could not be counted")
        if not reply.finished or (self._reason is not None and connection.write_paused):
            reply.abandon()
            connection.abort()  # the answer cannot be completed, or the client does not read
        connection.answered(keep_alive=reply.keep_alive, body_whole=self.body_whole)
