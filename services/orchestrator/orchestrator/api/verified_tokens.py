"""Who sent a request, by a JSON Web Token whose signature the load balancer has verified."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable
from typing import Any

import orjson

from ..errors import InvalidKey

PREFIX = "jwt:"
"""Begins the names of people, so that none has the name of a key."""

_MAX_BYTES = 16_384
_MAX_NAME = 128
_CLOCK_SECONDS = 60.0


class VerifiedTokens:
    """Reads the claims of tokens (RFC 7519). Nothing but the load balancer may reach the server.

    The load balancer has verified signature, issuer and expiry. Issuer, audience and expiry are checked here
    again, so that a rule of the load balancer that lacks one of them opens nothing.

    Args:
        claim: the claim that says who somebody is.
        now: the time in seconds since 1970.
    """

    def __init__(
        self, *, issuer: str, audience: str, claim: str, now: Callable[[], float] = time.time
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._claim = claim
        self._now = now

    def name(self, token: bytes) -> str:
        """Returns the name of the token's bearer, which begins with `PREFIX`.

        Raises:
            InvalidKey: this is neither a known key nor a token of the issuer for this audience, or it has
                expired or says nothing about its bearer.
        """
        claims = _claims(token)
        if claims is None or claims.get("iss") != self._issuer:
            raise InvalidKey(
                f"This is neither an API key of this server nor a token of {self._issuer}. "
                "Send the token in Authorization: Bearer TOKEN, or a key in X-API-Key."
            )
        audience = claims.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise InvalidKey(f"The token is not for this server: its aud must have {self._audience!r}.")
        expires = claims.get("exp")
        if not isinstance(expires, int | float) or self._now() >= expires + _CLOCK_SECONDS:
            raise InvalidKey("The token has expired. Sign in again for a new one.", code="expired_token")
        bearer = claims.get(self._claim)
        if not isinstance(bearer, str) or not 0 < len(bearer) <= _MAX_NAME or not bearer.isprintable():
            raise InvalidKey(
                f"The token does not say who you are: its claim {self._claim!r} must be a text of up to "
                f"{_MAX_NAME} characters."
            )
        return PREFIX + bearer


def _claims(token: bytes) -> dict[str, Any] | None:
    parts = token.split(b".")
    if len(parts) != 3 or len(token) > _MAX_BYTES:
        return None
    try:
        payload = base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4))
        claims = orjson.loads(payload)
    except (binascii.Error, orjson.JSONDecodeError):
        return None
    return claims if isinstance(claims, dict) else None
