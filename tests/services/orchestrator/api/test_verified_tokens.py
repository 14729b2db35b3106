"""Identities by tokens that a load balancer has verified."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.auth import Keys
from orchestrator.api.verified_tokens import VerifiedTokens
from orchestrator.errors import InvalidKey, SettingsError
from orchestrator.limits.accounts import Accounts
from orchestrator.limits.rules import Limits
from orchestrator.settings import Settings
from tests.support.live import live
from tests.support.scripted_engine import ScriptedEngine, whole

ISSUER = "https://login.example.com/"
KEY = "a-key-of-some-length"
SETTINGS = {
    "JWT_ISSUER": ISSUER,
    "JWT_AUDIENCE": "tandem",
    "API_KEYS": f"robot:{hashlib.sha256(KEY.encode()).hexdigest()}",
}


def token(**claims: Any) -> str:
    said = {"iss": ISSUER, "aud": "tandem", "exp": time.time() + 600, "sub": "alice", **claims}
    parts = [
        {"alg": "RS256", "typ": "JWT"},
        {name: value for name, value in said.items() if value is not None},
    ]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def tokens(**options: Any) -> VerifiedTokens:
    return VerifiedTokens(**{"issuer": ISSUER, "audience": "tandem", "claim": "sub", **options})


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        (bearer(token()), "jwt:alice"),
        (bearer(token(aud=["other", "tandem"])), "jwt:alice"),
        (bearer(token()) | {"x-api-key": KEY}, "robot"),
        (bearer(token()) | {"api-key": KEY}, "robot"),
        ({"x-api-key": KEY}, "robot"),
        (bearer(KEY), "robot"),
        ({"x-api-key": token()}, None),
        (bearer(token()) | {"x-api-key": "wrong"}, None),
        (bearer("wrong"), None),
        ({}, None),
    ],
)
def test_key_counts_more_than_a_token(headers: dict[str, str], name: str | None) -> None:
    keys = Keys(Settings.from_environment(SETTINGS))
    given = {header.encode(): value.encode() for header, value in headers.items()}
    if name is None:
        with pytest.raises(InvalidKey):
            keys.check(given)
    else:
        assert keys.check(given).name == name


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"iss": "https://evil.example.com/"}, f"nor a token of {ISSUER}"),
        ({"iss": None}, f"nor a token of {ISSUER}"),
        ({"aud": "other"}, "its aud must have 'tandem'"),
        ({"aud": ["other"]}, "its aud must have 'tandem'"),
        ({"aud": None}, "its aud must have 'tandem'"),
        ({"exp": 1}, "has expired"),
        ({"exp": None}, "has expired"),
        ({"exp": "never"}, "has expired"),
        ({"sub": None}, "its claim 'sub' must be a text"),
        ({"sub": ""}, "its claim 'sub' must be a text"),
        ({"sub": 7}, "its claim 'sub' must be a text"),
        ({"sub": "a" * 129}, "its claim 'sub' must be a text"),
        ({"sub": "a\nb"}, "its claim 'sub' must be a text"),
    ],
)
def test_token_that_does_not_fit_is_rejected(claims: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidKey, match=expected.replace("(", r"\(")) as raised:
        tokens().name(token(**claims).encode())
    assert raised.value.status == 401


def test_another_claim_may_name_people() -> None:
    assert tokens(claim="email").name(token(email="a@example.com").encode()) == "jwt:a@example.com"


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(lambda part: b"a." + part + b".b")))
def test_any_bytes_are_rejected_clearly(presented: bytes) -> None:
    with pytest.raises(InvalidKey):
        tokens().name(presented)


def test_audience_is_required() -> None:
    with pytest.raises(SettingsError, match="JWT_AUDIENCE"):
        Keys(Settings.from_environment({"JWT_ISSUER": ISSUER}))


def test_people_are_remembered_up_to_a_bound() -> None:
    accounts = Accounts(Limits(requests_per_minute=5))
    alice = accounts.person("jwt:alice")
    ticket = accounts.enter(alice)
    for number in range(10_000):
        accounts.person(f"jwt:{number}")
    assert accounts.person("jwt:alice") is alice  # in flight, so not forgotten
    assert len(list(accounts)) == 10_000
    accounts.leave(ticket, 0)


async def test_each_person_has_limits_of_their_own(engine: ScriptedEngine) -> None:
    engine.play(whole("one"), whole("two"))
    async with live(engine.url, **SETTINGS, KEY_REQUESTS_PER_MINUTE="1") as server:
        statuses = [
            (await server.chat(headers=bearer(token(sub=who)))).status_code
            for who in ("alice", "alice", "bob")
        ]
        metrics = await server.metrics()
    assert statuses == [200, 429, 200]
    assert "jwt:alice" in metrics
