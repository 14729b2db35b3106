"""The limits of a key, as the key document and the settings state them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

_AT_MOST = 2**53  # JSON readers in other languages have limits


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may do. None stands for no limit.

    Attributes:
        requests_per_minute, tokens_per_day: per calendar minute and day in UTC.
        max_in_flight: requests that are answered at the same time.
        models, tools: names of the models, and of the server's tools, that the key may use.
        expires: Unix time from which the key is rejected.
        admin: whether the key may see the usage of all keys.
    """

    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    max_in_flight: int | None = None
    models: frozenset[str] | None = None
    tools: frozenset[str] | None = None
    expires: float = math.inf
    admin: bool = False

    def with_entry(self, entry: Mapping[str, Any]) -> Limits:
        """Returns these limits with the ones that a key's entry in the key document has.

        Raises:
            ValueError: a value is invalid; the message names the field.
        """
        changes: dict[str, Any] = {}
        for name in ("requests_per_minute", "tokens_per_day", "max_in_flight"):
            if name in entry:
                changes[name] = _count(name, entry[name])
        for name in ("models", "tools"):
            if name in entry:
                changes[name] = _names(name, entry[name])
        if "expires" in entry:
            changes["expires"] = _moment(entry["expires"])
        if "admin" in entry:
            if not isinstance(entry["admin"], bool):
                raise ValueError("admin must be true or false")
            changes["admin"] = entry["admin"]
        return replace(self, **changes) if changes else self


def _count(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 < value <= _AT_MOST:
        raise ValueError(f"{name} must be a positive integer, or null for no limit")
    return value


def _names(name: str, value: Any) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ValueError(f"{name} must be a list of names, or null for no limit")
    return frozenset(value)


def _moment(value: Any) -> float:
    if value is None:
        return math.inf
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("expires must be a time such as 2027-01-31T12:00:00+00:00, or null") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
