"""Starts of engines on demand: who waits for one, and how long a start takes."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator

from ..errors import EngineStarting, EngineUnavailable
from ..protocol import JsonObject
from ..telemetry import Record

RETRY_AFTER_AT_MOST = 60
"""In seconds. OpenAI's clients do not repeat a request with a longer Retry-After (decision 23)."""

_REMEMBERED = 5
_TURN_SECONDS = 0.02


class Starts:
    """Counts the requests without an engine, and measures starts from the first of them.

    Attributes:
        startup_seconds: how long a start may take; 0 if engines are not started on demand.
        held: the number of requests that wait for an engine now.
        unmet: the number of requests since the service started that ended without an engine, by an error or
            because their client left.
        ended: the number of starts that were measured, and `last_seconds` how long the last one took.
    """

    def __init__(self, startup_seconds: float = 0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.startup_seconds = startup_seconds
        self.held = 0
        self.unmet = 0
        self.ended = 0
        self.last_seconds = 0.0
        self._clock = clock
        self._reports: dict[str, JsonObject] = {}
        self._turns = asyncio.Lock()
        self._began: float | None = None
        self._took: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def on_demand(self) -> bool:
        """Whether there may be no engine until a request arrives."""
        return self.startup_seconds > 0

    @property
    def under_way(self) -> bool:
        """Whether an engine reports a start, or a request has asked for one that may still come up."""
        began = self._began
        return bool(self._reports) or (began is not None and self._clock() - began < self.startup_seconds)

    @property
    def report_of_engine(self) -> JsonObject | None:
        """What the engine whose start takes least from now on reports; None if none does."""
        known = self._reports.values()
        return min(known, key=lambda one: one.get("remaining_seconds", math.inf), default=None)

    @property
    def expected_seconds(self) -> float:
        """How long a start takes: the median of the last ones, or the limit before the first one."""
        if not self._took:
            return self.startup_seconds
        import statistics  # saves memory until an engine was started

        return statistics.median(self._took)

    @property
    def remaining_seconds(self) -> float:
        """How long the start still takes; at least a second, since it is not over."""
        report = self.report_of_engine or {}
        if "remaining_seconds" in report:
            return max(1.0, float(report["remaining_seconds"]))
        elapsed = self._clock() - self._began if self._began is not None and self.under_way else 0.0
        return max(1.0, self.expected_seconds - elapsed)

    @contextlib.contextmanager
    def hold(self, record: Record) -> Iterator[None]:
        """Counts a request as held while it waits, and stops the clock of its deadline."""
        self.held += 1
        try:
            with record.hold():
                yield
        except BaseException:
            self.unmet += 1
            raise
        finally:
            self.held -= 1

    @contextlib.contextmanager
    def hold_for_start(self, record: Record) -> Iterator[None]:
        """Holds a request that found no engine, which begins a start."""
        self._want()
        with self.hold(record):
            yield

    async def turn(self, record: Record) -> None:
        """Waits for the next turn to ask a busy engine again, so that a herd does not ask it all at once."""
        with self.hold(record):
            async with self._turns:
                await asyncio.sleep(_TURN_SECONDS)

    def turn_away(self) -> EngineStarting:
        """Counts a request that does not wait, and returns its error."""
        self._want()
        self.unmet += 1
        took = f"usually takes {self._took_shown()}" if self._took else "may take up to " + self._took_shown()
        remaining = math.ceil(self.remaining_seconds)
        return EngineStarting(
            f"The model is asleep, and this request starts it. A start {took}; about {_shown(remaining)} "
            'remain. Send the request again then, or with "stream": true: a stream waits for the model.',
            headers={"retry-after": str(min(remaining, RETRY_AFTER_AT_MOST))},
        )

    def too_late(self) -> EngineUnavailable:
        """Returns the error of a request that has waited for as long as a start may take."""
        return EngineUnavailable(
            f"The model is asleep, and no engine has started within {self.startup_seconds:g} s "
            "(ENGINE_STARTUP_SECONDS). Try again in a minute.",
            headers={"retry-after": str(RETRY_AFTER_AT_MOST)},
        )

    def report(self, engine: str, status: JsonObject | None) -> None:
        """Takes an engine's report of its start, or None at its end."""
        if status is None:
            self._reports.pop(engine, None)
        else:
            self._reports[engine] = status

    def came_up(self) -> None:
        """Ends the start that is under way, if any."""
        if self._began is not None and self._clock() - self._began < self.startup_seconds:
            self.last_seconds = self._clock() - self._began
            self.ended += 1
            self._took.append(self.last_seconds)
        self._began = None

    def _want(self) -> None:
        if self._began is None or self._clock() - self._began >= self.startup_seconds:
            self._began = self._clock()

    def _took_shown(self) -> str:
        return _shown(self.expected_seconds)


def _shown(seconds: float) -> str:
    return f"{math.ceil(seconds)} s"
