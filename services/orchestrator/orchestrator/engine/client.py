"""The client of the engine tier: several engines as one, with retries and the wait for one that starts."""

from __future__ import annotations

import operator
import time

from ..errors import ApiError, EngineFailed, EngineUnavailable, engine_error
from ..telemetry import Telemetry
from .address import Address, Answer, StaleConnection
from .connection import ConnectionBroken
from .discovery import Discovery

_RESENDS = 2
_load = operator.attrgetter("in_flight")


class Engines:
    """Sends a request to the engine that should have it, and to another where that fails."""

    def __init__(self, discovery: Discovery, telemetry: Telemetry, *, wait_seconds: float) -> None:
        self._discovery = discovery
        self._telemetry = telemetry
        self._wait_seconds = wait_seconds

    async def ask(
        self,
        path: str,
        body: bytes,
        *,
        request_id: str = "",
        whole: bool = True,
        prefer: Address | None = None,
    ) -> Answer:
        """POSTs one request and waits for the first piece of its answer; see `Address.exchange`.

        Until then a connection that fails and a 503 are retried on another address, and where no engine
        answers the request waits for one. A request that broke its connection three times is given up:
        it may be what breaks the engines.

        Raises:
            EngineUnavailable: none came up in time, or all are busy. EngineFailed: it broke off too often.
        """
        until = time.monotonic() + self._wait_seconds
        avoid: set[Address] = set()
        busy: ApiError | None = None
        resends = 0
        while True:
            address = self._choose(prefer, avoid)
            if address is None:
                if busy:
                    raise busy
                await self._wait_for_engine(until)
                avoid.clear()
                continue
            address.in_flight += 1
            try:
                answer = await address.exchange(path, body, request_id, whole=whole)
            except BaseException as error:
                address.in_flight -= 1
                if isinstance(error, ConnectionBroken):
                    resends += not isinstance(error, StaleConnection)
                    self._after_break(address, error, resends, avoid)
                elif isinstance(error, OSError):
                    self._discovery.mark_down(address, str(error))
                else:
                    raise
            else:
                answer.counted = True
                if answer.status != 503:
                    return answer
                with answer:
                    busy = engine_error(503, await answer.read(), answer.retry_after)
                avoid.add(address)
            self._telemetry.engine_retried()

    def _after_break(
        self, address: Address, error: ConnectionBroken, resends: int, avoid: set[Address]
    ) -> None:
        if resends > _RESENDS:
            raise EngineFailed(
                f"The engine broke the connection {resends} times before it answered ({error})"
            ) from None
        if isinstance(error, StaleConnection):
            address.drop_idle()
            return
        # One request's break does not make an engine down for the others: its next probe decides.
        address.probe_now.set()
        if any(other not in avoid for other in self._discovery.up() if other is not address):
            avoid.add(address)

    def _choose(self, prefer: Address | None, avoid: set[Address]) -> Address | None:
        """The preferred address unless it is overloaded, else the least loaded one that is up."""
        up = self._discovery.up()
        if avoid:
            up = [address for address in up if address not in avoid]
        if len(up) < 2:
            return up[0] if up else None
        # Bounded load: a preferred engine may have a quarter more than its share (Mirrokni et al. 2016).
        if prefer in up and prefer.in_flight <= 1.25 * sum(a.in_flight for a in up) / len(up) + 1:
            return prefer
        return min(up, key=_load)

    async def _wait_for_engine(self, until: float) -> None:
        try:
            await self._discovery.wait_until_up(until - time.monotonic())
        except TimeoutError:
            reason = self._discovery.why_not_ready() or "No engine could take the request"
            raise EngineUnavailable(
                f"{reason}. Try again in a few seconds.", headers={"retry-after": "5"}
            ) from None
