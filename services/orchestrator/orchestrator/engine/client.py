"""The client of the engine tier: balances the load, retries, and waits for an engine to start."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass

from ..connection import OUR_FAILURES, ConnectionBroken
from ..errors import ApiError, EngineFailed, EngineUnavailable
from ..protocol import JsonObject
from ..telemetry import Record, Telemetry
from . import affinity
from .address import Address, Response, StaleConnection
from .affinity import Rankings
from .answer import Answer, status_error
from .discovery import Discovery

_RESENDS = 2
_STOPPING_SECONDS = 3.0
"""After this time, an engine that is being stopped is known to be down."""


@dataclass(slots=True)
class _Wait:
    """How a request waits if no engine is up: a whole answer never waits for a start on demand.

    Attributes:
        until: the end of all waiting, on the monotonic clock.
        busy: the error of the engine that last answered 503, since nothing else was tried.
        busy_until: the end of waiting for engines that are busy; None if none has been.
    """

    record: Record
    whole: bool
    until: float
    busy: ApiError | None = None
    busy_until: float | None = None


class Engines:
    """Sends each request to the best engine, and to another one if that fails.

    Attributes:
        entry: the model that these engines serve, empty if there is only one.
    """

    def __init__(
        self,
        discovery: Discovery,
        telemetry: Telemetry,
        *,
        wait_seconds: float,
        affinity: bool = True,
        entry: str = "",
    ) -> None:
        self.entry = entry
        self._discovery = discovery
        self._affinity = affinity
        self._rankings: Rankings[Address] = Rankings()
        self._starts = discovery.starts
        self._telemetry = telemetry
        self._wait_seconds = wait_seconds

    def prefix_of(self, request: JsonObject) -> int | None:
        """Returns a hash of the request's beginning, None if it does not decide which engine is asked."""
        return affinity.prefix_of(request) if self._affinity and len(self._discovery.up()) > 1 else None

    async def ask(
        self,
        path: str,
        body: bytes,
        record: Record | None = None,
        *,
        whole: bool = True,
        prefer: Address | None = None,
        prefix: int | None = None,
        content_type: bytes = b"",
    ) -> Answer:
        """POSTs one request and waits for the first part of its answer; see `Address.post`, `_choose`.

        Until then, a broken connection, or an engine that is busy or being stopped, leads to a retry on
        another one. If none is up, the request waits; if engines start on demand, only streams wait. One that
        has broken its connection three times is not sent again, since it may be what breaks the engines.

        Raises:
            EngineUnavailable: no engine came up in time, all are busy, or one is started and nobody waits.
            EngineFailed: the connection broke too often, or the engine failed.
            CallerError: the engine rejected the request.
        """
        record = record or Record("", path)
        wait = _Wait(record, whole, time.monotonic() + (self._starts.startup_seconds or self._wait_seconds))
        avoid: set[Address] = set()
        resends, key_changed = 0, False
        while True:
            address = await self._next_address(prefer, prefix, avoid, wait)
            key = address.key
            try:
                response = await _post(address, path, body, record, content_type, whole=whole)
            except ConnectionBroken as broken:
                resends += not isinstance(broken, StaleConnection)
                self._after_break(address, broken, resends, avoid, record)
            except OSError as error:
                self._after_no_connection(address, error, record)
            else:
                if response.status < 400:
                    return Answer(address, response, path)
                record.attempt_failed(str(response.status))
                with response:
                    error_answer = status_error(response.status, await response.read(), response.retry_after)
                if response.status == 401 and not key_changed and address.use_other_key(key):
                    key_changed = True
                elif not isinstance(error_answer, EngineUnavailable):
                    raise error_answer
                else:
                    wait.busy = error_answer
                    avoid.add(address)
            self.retried()

    def retried(self) -> None:
        """Counts that a request is sent to an engine again."""
        self._telemetry.engine_retried(self.entry)

    async def _next_address(
        self, prefer: Address | None, prefix: int | None, avoid: set[Address], wait: _Wait
    ) -> Address:
        """Returns the address to ask next. If there is none, waits for one, or raises an error."""
        wait.record.rejected()  # by the engine that was asked before, if any
        while (address := self._choose(prefer, prefix, avoid)) is None:
            if wait.busy:
                await self._wait_for_turn(wait, wait.busy)
                wait.busy = None
            else:
                await self._wait_for_engine(wait)
            avoid.clear()
        return address

    async def _wait_for_turn(self, wait: _Wait, busy: ApiError) -> None:
        """Lets a stream that waited for a start go on waiting, since all that waited come to one engine.

        Other streams wait a little: the engine may be busy because it is being stopped.
        """
        if not self._starts.on_demand or wait.whole or not wait.record.may_wait:
            raise busy
        now = time.monotonic()
        if wait.busy_until is None:
            wait.busy_until = wait.until if wait.record.held_before else now + _STOPPING_SECONDS
        if now >= wait.busy_until:
            raise busy
        await self._starts.turn(wait.record)

    def _after_no_connection(self, address: Address, error: OSError, record: Record) -> None:
        record.attempt_failed("no_connection")
        if error.errno in OUR_FAILURES:
            raise _no_connection(error) from None
        self._discovery.mark_down(address, str(error))

    def _after_break(
        self,
        address: Address,
        error: ConnectionBroken,
        resends: int,
        avoid: set[Address],
        record: Record,
    ) -> None:
        record.attempt_failed("connection_broken")
        if resends > _RESENDS:
            raise EngineFailed(
                f"The engine broke the connection {resends} times before it answered ({error})"
            ) from None
        if isinstance(error, StaleConnection):
            address.drop_idle()
            return
        # One broken request does not mark an engine as down for the others: its next probe decides.
        address.probe_now.set()
        if any(other not in avoid for other in self._discovery.up() if other is not address):
            avoid.add(address)

    def _choose(self, prefer: Address | None, prefix: int | None, avoid: set[Address]) -> Address | None:
        """Returns the preferred address, else that of the prefix, else the least loaded one.

        No engine gets more than its bounded share, nor one that may be down if there are others.
        """
        up = known = self._discovery.up()
        if avoid:
            up = [address for address in up if address not in avoid]
        if len(up) < 2:
            return up[0] if up else None
        up, in_flight = _answering(up)
        bound = affinity.most_in_flight(in_flight, len(up))
        if prefer is not None and prefer in up and prefer.in_flight < bound:
            return prefer
        if prefix is None:
            return min(up, key=lambda address: address.in_flight)
        order = self._rankings.of(up, prefix) if up is known else affinity.ranked(up, prefix)
        for chosen in order:
            if chosen.in_flight < bound:
                break
        self._telemetry.engine_chosen(self.entry, at_home=chosen is order[0])
        return chosen

    async def _wait_for_engine(self, wait: _Wait) -> None:
        starts = self._starts
        if starts.on_demand and (wait.whole or not wait.record.may_wait):
            raise starts.turn_away()
        if not wait.record.may_wait:
            raise self._not_ready()
        try:
            with starts.hold_for_start(wait.record):
                await self._discovery.wait_until_up(wait.until - time.monotonic())
        except TimeoutError:
            if starts.on_demand:
                raise starts.too_late() from None
            raise self._not_ready() from None

    def _not_ready(self) -> EngineUnavailable:
        reason = self._discovery.why_not_ready() or "No engine could take the request"
        return EngineUnavailable(f"{reason}. Try again in a few seconds.", headers={"retry-after": "5"})


def _answering(up: list[Address]) -> tuple[list[Address], int]:
    """Returns the engines that have answered their last probe, or all if none has, and their requests."""
    in_flight = missed = 0
    for address in up:
        in_flight += address.in_flight
        if address.missed_probes:
            missed += 1
    if 0 < missed < len(up):
        up = [address for address in up if not address.missed_probes]
        in_flight = sum([address.in_flight for address in up])
    return up, in_flight


def _post(
    address: Address, path: str, body: bytes, record: Record, content_type: bytes, *, whole: bool
) -> Awaitable[Response]:
    # The size of a file says nothing about its tokens.
    record.ask(0 if content_type else len(body), address.label)
    return address.post(path, body, record.identity, whole=whole, content_type=content_type)


def _no_connection(error: OSError) -> EngineUnavailable:
    return EngineUnavailable(
        f"This server cannot open another connection to an engine ({error}). Try again in a few seconds, "
        "and allow the server more open files.",
        code="no_connection",
        headers={"retry-after": "2"},
    )
