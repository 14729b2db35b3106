"""Limits of keys: as typed, as the orchestrator reads them, and as shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops import key_limits, keys
from ops.account import Failed
from ops.keys import Document
from orchestrator.api.auth import parse_keys
from orchestrator.limits.rules import Limits

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def limits(document: Document, name: str) -> Limits:
    """Returns the limits of a name as the orchestrator reads them."""
    return Limits().with_entry(parse_keys(json.dumps(document))[name].fields)


def test_orchestrator_reads_the_limits_of_a_created_key() -> None:
    options: keys.Options = {
        "requests_per_minute": "300", "tokens_per_day": "2M", "max_in_flight": "8", "models": "a, b",
        "tools": "none", "expires": "90d", "admin": True,
    }  # fmt: skip
    document = keys.created({}, "alice", "sk", NOW, options)
    assert limits(document, "alice") == Limits(
        300, 2_000_000, 8, frozenset({"a", "b"}), None, (NOW + timedelta(days=90)).timestamp(), admin=True
    )


def test_set_changes_only_what_was_given() -> None:
    document = keys.created({}, "alice", "sk", NOW, {"tokens_per_day": "2M", "max_in_flight": "8"})
    document = keys.limited(document, "alice", {"tokens_per_day": "1.5k", "models": None}, NOW)
    assert limits(document, "alice") == Limits(tokens_per_day=1500, max_in_flight=8)
    document = keys.limited(document, "alice", {"tokens_per_day": "none", "max_in_flight": "default"}, NOW)
    assert key_limits.kept(document["alice"]) == {"tokens_per_day": None}
    assert parse_keys(json.dumps(document))["alice"].digests


def test_rotation_keeps_the_limits() -> None:
    document = keys.created({}, "alice", "one", NOW, {"tokens_per_day": "2M"})
    document = keys.rotated(document, "alice", "two", NOW)
    assert limits(document, "alice").tokens_per_day == 2_000_000
    document = keys.limited(document, "alice", {"tokens_per_day": "3M"}, NOW)
    assert limits(document, "alice").tokens_per_day == 3_000_000
    assert limits(keys.finished(document, "alice"), "alice").tokens_per_day == 3_000_000


def test_bootstrap_key_has_limits_without_a_hash() -> None:
    document = keys.limited({}, "bootstrap", {"max_in_flight": "4"}, NOW)
    assert limits(document, "bootstrap") == Limits(max_in_flight=4)
    entry = parse_keys(json.dumps(document))["bootstrap"]
    assert (entry.digests, entry.revoked) == ([], False)
    [listed] = keys.listed(document)
    assert (listed.revoked, listed.limits) == (False, {"max_in_flight": 4})
    with pytest.raises(Failed, match="unknown key"):
        keys.rotated(document, "bootstrap", "sk", NOW)
    with pytest.raises(Failed, match="unknown key"):
        keys.limited(keys.revoked(document, "bootstrap"), "bootstrap", {"max_in_flight": "5"}, NOW)


def test_limits_of_an_unknown_key() -> None:
    with pytest.raises(Failed, match="unknown key 'bob'"):
        keys.limited({}, "bob", {"max_in_flight": "1"}, NOW)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("tokens_per_day", "2 M"), ("tokens_per_day", "0"), ("requests_per_minute", "-1"),
        ("max_in_flight", "0.2"),
        ("expires", "soon"), ("expires", "99999999w"), ("expires", "2026-13-01"),
    ],
)  # fmt: skip
def test_invalid_limit_names_the_option_and_what_is_valid(option: str, text: str) -> None:
    with pytest.raises(Failed, match=f"invalid --{option.replace('_', '-')} '{text}': give a"):
        keys.created({}, "alice", "sk", NOW, {option: text})


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({}, ""),
        (
            {"requests_per_minute": 300, "tokens_per_day": 1_500_000},
            "300 requests per minute; 1.5M tokens per day",
        ),
        (
            {"max_in_flight": None, "models": ["a", "b"], "tools": []},
            "any number of requests in flight; models: a, b; tools: none",
        ),
        ({"expires": "2026-04-02T03:04:05+00:00", "admin": True}, "expires 2026-04-02 03:04 UTC; admin"),
        ({"expires": "2026-01-02T03:04:05+00:00"}, "expired 2026-01-02 03:04 UTC"),
    ],
)
def test_shown(entry: dict[str, Any], text: str) -> None:
    assert key_limits.shown(entry, NOW) == text
