"""GET /v1/usage: what a key has used, and its limits. Keys with `admin` see all keys."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from ..errors import InvalidRequest
from ..limits.accounts import Account
from ..limits.allowance import DAY, Allowance
from ..limits.usage import RowKey, Usage, Use, day_of, shown
from ..protocol import JsonObject
from .described import json_answer

MAX_DAYS = 400
_CACHE_SECONDS = 5.0
_CACHED = 200

Read = Callable[[Sequence[str], str | None], Awaitable[dict[RowKey, Use]]]
"""Reads the usage of some days over all servers, of one key or of all."""


class UsageReport:
    """Answers what was used.

    Args:
        usage: what this server has counted since it was started.
        read: reads what all servers have counted. None: this server is alone.
    """

    def __init__(self, usage: Usage, read: Read | None) -> None:
        self._usage = usage
        self._read = read
        self._started = datetime.now(UTC)
        self._cache: dict[tuple[str | None, int, str], tuple[float, dict[RowKey, Use]]] = {}
        self._reading = asyncio.Lock()

    async def of(self, account: Account, days: int) -> JsonObject:
        """Returns the report for a key on the last days, of which today is one."""
        now = time.time()
        listed = [day_of(now - number * DAY) for number in range(days)]
        key = None if account.limits.admin else account.name
        rows = await self._cached(key, listed)
        return {
            "object": "usage",
            "key": account.name,
            "admin": account.limits.admin,
            "since": listed[-1],
            "scope": "all servers" if self._read else f"this server since {self._started:%Y-%m-%d %H:%M} UTC",
            "limits": _limits(account, now),
            "data": [shown(place, use) for place, use in sorted(rows.items())],
        }

    async def _cached(self, key: str | None, days: Sequence[str]) -> dict[RowKey, Use]:
        if self._read is None:
            return {
                place: use
                for place, use in self._usage.rows()
                if place[0] in days and (key is None or place[1] == key)
            }
        question = (key, len(days), days[0])
        # One at a time, so that keys cannot fill the threads with questions.
        async with self._reading:
            found = self._cache.get(question)
            if found is None or time.monotonic() - found[0] > _CACHE_SECONDS:
                if len(self._cache) >= _CACHED:
                    self._cache.clear()
                found = self._cache[question] = (time.monotonic(), await self._read(days, key))
        return found[1]


def _limits(account: Account, now: float) -> JsonObject:
    limits = account.limits
    expires = None
    if limits.expires != math.inf:
        expires = datetime.fromtimestamp(limits.expires, UTC).isoformat(timespec="seconds")
    return {
        "requests_per_minute": limits.requests_per_minute,
        "tokens_per_day": limits.tokens_per_day,
        "max_in_flight": limits.max_in_flight,
        "models": None if limits.models is None else sorted(limits.models),
        "tools": None if limits.tools is None else sorted(limits.tools),
        "expires": expires,
        "remaining_requests": _remaining(account.requests, now),
        "remaining_tokens": _remaining(account.tokens, now),
    }


def _remaining(allowance: Allowance | None, now: float) -> int | None:
    if allowance is None:
        return None
    allowance.roll(now)
    return allowance.remaining()


def add_usage_route(app: FastAPI, report: UsageReport) -> None:
    @app.get(
        "/v1/usage",
        tags=["usage"],
        summary="What the key has used, and its limits",
        responses={200: json_answer("The usage")},
    )
    async def get_usage(request: Request) -> Response:
        """`days` is the number of days, 7 unless given. Keys with `admin` get the usage of all keys."""
        text = request.query_params.get("days", "7")
        days = int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else 0
        if not 1 <= days <= MAX_DAYS:
            raise InvalidRequest(
                f"days must be a number from 1 to {MAX_DAYS}, not {text[:40]!r}", param="days"
            )
        return JSONResponse(await report.of(request.state.account, days))
