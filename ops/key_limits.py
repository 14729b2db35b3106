"""The limits of a key as they are typed, stored in its entry, and shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from .account import Failed

COUNTS = {
    "requests_per_minute": "requests per minute",
    "tokens_per_day": "tokens per day",
    "max_in_flight": "requests in flight",
}
"""The fields with a number, and what it counts."""

NAMES = ("models", "tools")
FIELDS = (*COUNTS, *NAMES, "expires", "admin")

_COUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kMG]?)")
_FACTORS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
_PERIOD = re.compile(r"([0-9]+)([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}
_NONE, _DEFAULT = "none", "default"


def changed(
    entry: Mapping[str, Any], options: Mapping[str, str | bool | None], now: datetime
) -> dict[str, Any]:
    """Returns an entry with the limits that were given; `none` lifts one, `default` removes it.

    Raises:
        Failed: A value is invalid.
    """
    result = dict(entry)
    for field, text in options.items():
        if text == _DEFAULT:
            result.pop(field, None)
        elif text is not None:
            result[field] = _value(field, text, now)
    return result


def kept(entry: Any) -> dict[str, Any]:
    """Returns the limits in an entry."""
    return {field: entry[field] for field in FIELDS if field in entry} if isinstance(entry, dict) else {}


def shown(limits: Mapping[str, Any], now: datetime) -> str:
    """Returns the limits in one line."""
    parts = []
    for field, what in COUNTS.items():
        if field in limits:
            value = limits[field]
            parts.append(f"any number of {what}" if value is None else f"{short(value)} {what}")
    for field in NAMES:
        if limits.get(field) is not None:
            parts.append(f"{field}: {', '.join(limits[field]) or 'none'}")
    if limits.get("expires"):
        past = datetime.fromisoformat(limits["expires"]) <= now
        parts.append(f"{'expired' if past else 'expires'} {limits['expires'][:16].replace('T', ' ')} UTC")
    if limits.get("admin"):
        parts.append("admin")
    return "; ".join(parts)


def short(count: int) -> str:
    """Returns a count as it may be typed: 2M, 1.5k, 300."""
    for unit in ("G", "M", "k"):
        if count >= _FACTORS[unit]:
            return f"{count / _FACTORS[unit]:.4g}{unit}"
    return str(count)


def _value(field: str, text: str | bool, now: datetime) -> Any:
    if isinstance(text, bool):
        return text
    if field in COUNTS:
        return None if text == _NONE else _count(field, text)
    if field in NAMES:
        return None if text == _NONE else [name.strip() for name in text.split(",") if name.strip()]
    return None if text == _NONE else _moment(text, now)


def _count(field: str, text: str) -> int:
    match = _COUNT.fullmatch(text)
    count = int(float(match[1]) * _FACTORS[match[2]]) if match else 0
    if count < 1:
        raise Failed(
            f"invalid --{field.replace('_', '-')} {text!r}: give a positive number such as 500, 20k or 2M, "
            f"{_NONE} for no limit, or {_DEFAULT} for the limit of all keys"
        )
    return count


def _moment(text: str, now: datetime) -> str:
    period = _PERIOD.fullmatch(text)
    try:
        if period:
            moment = now + timedelta(hours=int(period[1]) * _HOURS[period[2]])
        else:
            moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise Failed(
            f"invalid --expires {text!r}: give a period such as 12h, 90d or 8w, a date such as 2027-01-31, "
            f"or {_NONE}"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat(timespec="seconds")
