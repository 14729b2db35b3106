"""Who used how much: requests, tokens, tool calls and engine time by day, key and model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ..record import Record
from .allowance import DAY

_ROWS_PER_DAY = 2000
_DAYS_KEPT = 31
_OTHER = "other"
_WEIGHT = 0.05
"""Of one request in the averages that estimates are made with."""

_CUT_OFF = frozenset({499, 502, 504})
"""Statuses of requests that an engine may have worked for without reporting their tokens."""

RowKey = tuple[str, str, str]
"""Day, key and model."""


@dataclass(slots=True)
class Use:
    """What one key used of one model on one day.

    Attributes:
        cached_tokens: those of `prompt_tokens` that the engine had in its cache, if it reports them.
        engine_seconds: the key's share of the engines' time. Requests that run together share it equally.
        estimated: requests whose tokens were estimated, since they ended before the engine reported them.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    tool_calls: int = 0
    engine_seconds: float = 0.0
    estimated: int = 0

    def add(self, other: Use) -> None:
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.cached_tokens += other.cached_tokens
        self.tool_calls += other.tool_calls
        self.engine_seconds += other.engine_seconds
        self.estimated += other.estimated


class _Averages:
    """What requests of one model usually need."""

    __slots__ = ("tokens_per_byte", "tokens_per_second")

    def __init__(self) -> None:
        self.tokens_per_byte = 0.25
        self.tokens_per_second = 0.0

    def learn(self, record: Record, size: int, seconds: float) -> None:
        rate = record.prompt_tokens / size
        self.tokens_per_byte += _WEIGHT * (rate - self.tokens_per_byte)
        if seconds > 0:
            pace = record.completion_tokens / seconds
            self.tokens_per_second += _WEIGHT * (pace - self.tokens_per_second)


class Usage:
    """The usage that this process has counted, by day, key and model.

    Attributes:
        changed: the rows that have changed since they were last stored.
    """

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self.changed: set[RowKey] = set()
        self._now = now
        self._rows: dict[str, dict[tuple[str, str], Use]] = {}
        self._averages: dict[str, _Averages] = {}
        self._day_number = -1
        self._day = ""

    def count(self, record: Record) -> None:
        """Counts a request that has ended; estimates its tokens if it was cut off."""
        estimated = record.unreported_bytes > 0 and record.status in _CUT_OFF and self._estimate(record)
        rows = self._today()
        place = (record.key_name, record.model)
        use = rows.get(place)
        if use is None:
            if len(rows) >= _ROWS_PER_DAY:
                place = (_OTHER, _OTHER)
            use = rows.setdefault(place, Use())
        use.requests += 1
        use.prompt_tokens += record.prompt_tokens
        use.completion_tokens += record.completion_tokens
        use.cached_tokens += record.cached_tokens
        use.tool_calls += len(record.tools)
        use.engine_seconds += record.engine_seconds
        use.estimated += estimated
        self.changed.add((self._day, *place))
        if record.reported_bytes and not estimated:
            self._average(record.model).learn(record, record.reported_bytes, record.answer_seconds)

    def row(self, key: RowKey) -> Use | None:
        """Returns the counters of one row, unless it is too old."""
        day, name, model = key
        return self._rows.get(day, {}).get((name, model))

    def rows(self) -> Iterator[tuple[RowKey, Use]]:
        for day, rows in self._rows.items():
            for (name, model), use in rows.items():
                yield (day, name, model), use

    def _average(self, model: str) -> _Averages:
        averages = self._averages.get(model)
        if averages is None:
            if len(self._averages) >= _ROWS_PER_DAY:
                return _Averages()
            averages = self._averages[model] = _Averages()
        return averages

    def _estimate(self, record: Record) -> bool:
        """Adds what the engine did for a request that it could not report on any longer."""
        seconds = record.unreported_seconds
        if not record.events and (record.stream or record.status == 502):
            return False  # the engine had not begun, or has failed
        averages = self._average(record.model)
        record.prompt_tokens += round(averages.tokens_per_byte * record.unreported_bytes)
        if record.events:
            record.completion_tokens += record.events
        else:
            record.completion_tokens += round(averages.tokens_per_second * seconds)
        return True

    def _today(self) -> dict[tuple[str, str], Use]:
        now = self._now()
        number = int(now) // DAY
        if number != self._day_number:
            self._day_number = number
            self._day = day_of(now)
            self._rows.setdefault(self._day, {})
            while len(self._rows) > _DAYS_KEPT:
                del self._rows[min(self._rows)]
        return self._rows[self._day]


def day_of(moment: float) -> str:
    """Returns the day in UTC, such as 2026-11-26."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


def shown(key: RowKey, use: Use) -> dict[str, Any]:
    """Returns a row as the API and `make usage` show it."""
    day, name, model = key
    fields = asdict(use)
    fields["engine_seconds"] = round(use.engine_seconds, 3)
    return {"day": day, "key": name, "model": model, **fields}
