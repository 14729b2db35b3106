"""Spans and the context that identifies them (W3C Trace Context)."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

Value = str | bool | int | float | list[str]

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})")


class Kind(IntEnum):
    """The kinds of spans, numbered as in OTLP."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


class Parent(NamedTuple):
    """The span of whoever sent a request."""

    trace_id: str
    span_id: str
    sampled: bool


def parse_parent(traceparent: str) -> Parent | None:
    """Returns the span that a `traceparent` identifies, None if it is invalid."""
    match = _TRACEPARENT.fullmatch(traceparent)
    return Parent(match[1], match[2], bool(int(match[3], 16) & 1)) if match else None


def new_trace_id() -> str:
    return f"{random.getrandbits(128) or 1:032x}"


def new_span_id() -> str:
    return f"{random.getrandbits(64) or 1:016x}"


@dataclass(slots=True)
class Span:
    """One step of a request.

    Attributes:
        start, end: in nanoseconds of Unix time. `end` is 0 while the step goes on.
        error: why the step failed, as an `error.type`.
    """

    name: str
    kind: Kind
    parent_id: str
    attributes: dict[str, Value] = field(default_factory=dict)
    id: str = field(default_factory=new_span_id)
    start: int = field(default_factory=time.time_ns)
    end: int = 0
    error: str | None = None

    def finish(self, error: str | None = None) -> None:
        """Ends the step, unless it has ended."""
        if self.end:
            return
        self.end = max(time.time_ns(), self.start)  # the clock may have been set back
        self.error = self.error or error


@dataclass(slots=True)
class Trace:
    """The spans of one request, of which the first is the whole request."""

    id: str
    state: str
    spans: list[Span]

    def traceparent(self, span: Span) -> str:
        return f"00-{self.id}-{span.id}-01"
