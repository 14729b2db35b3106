"""The memory budget: how many bytes all requests may hold together, and how many one request needs."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import InvalidRequest, Overloaded

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_SHARE_OF_THE_MACHINE = 0.25
_NOT_VALUES = bytes(byte for byte in range(256) if byte not in b"[{,")
_BYTES_PER_VALUE = 100
_ANSWER_BYTES_PER_COMMA = 64
_ANSWER_BYTES_PER_BRACKET = 200
_LARGE_BODY = 262_144
_ANSWER_COPIES = 3
# Measured: nested arrays are the worst case and take 29 times the size of the body.
_WORST_COPIES = 32
# The raw body, its parsed text, the request to the engine, and that request in the socket's buffer.
_COPIES = 4
# One character beyond Latin-1 makes Python store a whole string with two or four bytes per character.
_WIDE_COPIES = 8


class Budget:
    """The bytes that all requests and the engine's answers to them may hold together.

    Attributes:
        limit, used: sizes in bytes.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def acquire(self, size: int) -> None:
        """Takes `size` bytes from the budget.

        Raises:
            Overloaded: the budget is exhausted.
        """
        if self.used + size > self.limit:
            raise Overloaded(
                f"The current requests hold {self.used:,} of {self.limit:,} bytes, and this one needs "
                f"{size:,} more (MEMORY_BUDGET_BYTES). Try again shortly.",
                code="memory_budget",
                headers={"retry-after": "2"},
            )
        self.used += size

    def release(self, size: int) -> None:
        self.used -= size

    @property
    def half_full(self) -> bool:
        return 2 * self.used > self.limit


class Share:
    """The part of the budget that one request holds."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def resize(self, size: int) -> None:
        """Changes the size of the share.

        Raises:
            Overloaded: the budget is exhausted; the share keeps its size.
        """
        more = size - self.size
        if more > 0:
            self._budget.acquire(more)
        else:
            self._budget.release(-more)
        self.size = size

    def resize_for(self, body: bytes, max_values: int) -> None:
        """Resizes the share for parsing a request body and sending it on.

        Raises:
            InvalidRequest: the body contains too many values. Overloaded: the budget is exhausted.
        """
        size = len(body)
        if size < _LARGE_BODY and not self._budget.half_full:
            self.resize(_WORST_COPIES * size)  # computing the exact cost takes as long as parsing the body
        else:
            self.resize(_cost(body, max_values))

    def resize_for_file(self, body: bytes) -> None:
        """Resizes the share for sending a body on that is not parsed.

        Raises:
            Overloaded: the budget is exhausted.
        """
        self.resize(_COPIES * len(body))


def _cost(body: bytes, max_values: int) -> int:
    values = len(body.translate(None, _NOT_VALUES))
    if values > max_values:
        raise InvalidRequest(
            f"The request body contains up to {values:,} JSON values, counted by its commas and opening "
            f"brackets; at most {max_values:,} are accepted (MAX_JSON_VALUES). Send fewer or shorter lists.",
            code="too_many_values",
        )
    narrow = body.isascii() and b"\\u" not in body
    return len(body) * (_COPIES if narrow else _WIDE_COPIES) + values * _BYTES_PER_VALUE


def answer_cost(answer: bytes) -> int:
    """Returns the memory in bytes that an engine's whole answer takes, as received, parsed and sent on."""
    if len(answer) < _LARGE_BODY:
        return _ANSWER_COPIES * len(answer)
    opened = answer.count(b"[") + answer.count(b"{")
    parsed = _ANSWER_BYTES_PER_COMMA * answer.count(b",") + _ANSWER_BYTES_PER_BRACKET * opened
    return _ANSWER_COPIES * len(answer) + parsed


def default_budget() -> int:
    """Returns a quarter of the container's memory limit, or of the machine's memory if there is no limit."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [physical]
    for path in _CGROUP_LIMITS:
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):  # not this version of cgroups, or "max"
            continue
    return int(min(limits) * _SHARE_OF_THE_MACHINE)
