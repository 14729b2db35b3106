"""Limits as a key's entry states them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from orchestrator.limits.rules import Limits

DEFAULT = Limits(requests_per_minute=60, tokens_per_day=1000)


def test_entry_changes_only_what_it_names() -> None:
    limits = DEFAULT.with_entry({"sha256": "x", "tokens_per_day": 5, "models": ["a"], "admin": True})
    assert limits == Limits(60, 5, models=frozenset({"a"}), admin=True)
    assert DEFAULT.with_entry({"created": "2026-01-01"}) is DEFAULT


def test_null_lifts_a_limit() -> None:
    limits = DEFAULT.with_entry({"requests_per_minute": None, "tools": None, "expires": None})
    assert limits == Limits(None, 1000)


@pytest.mark.parametrize(
    ("text", "moment"),
    [("1970-01-02", 86_400), ("1970-01-02T00:00:00+00:00", 86_400), ("1970-01-02T01:00:00+01:00", 86_400)],
)
def test_expiry_is_in_utc_unless_it_says_otherwise(text: str, moment: float) -> None:
    assert Limits().with_entry({"expires": text}).expires == moment
    assert Limits().expires == math.inf


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"requests_per_minute": 0}, "requests_per_minute must be a positive integer"),
        ({"tokens_per_day": "2M"}, "tokens_per_day"),
        ({"max_in_flight": True}, "max_in_flight"),
        ({"tokens_per_day": 2**60}, "tokens_per_day"),
        ({"models": "a"}, "models must be a list of names"),
        ({"tools": [1]}, "tools"),
        ({"expires": "tomorrow"}, "expires must be a time"),
        ({"expires": 7}, "expires"),
        ({"admin": 1}, "admin must be true or false"),
    ],
)
def test_invalid_value_is_named(entry: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Limits().with_entry(entry)
