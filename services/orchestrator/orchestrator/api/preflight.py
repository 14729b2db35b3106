"""Answers browsers' preflight requests."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import InvalidRequest
from .reply import Reply
from .request import Request

_MAX_AGE_SECONDS = 7200  # Chromium's maximum
_FIELD_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")


class Preflight:
    """Handles a browser's question whether a page may send a request. It carries no key."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = origins

    async def __call__(self, request: Request, reply: Reply) -> None:
        origin = request.headers.get(b"origin", b"").decode("latin-1")
        if "*" not in self._origins and origin not in self._origins:
            raise InvalidRequest(
                f"Pages of the origin {origin[:200]!r} may not use this server (CORS_ORIGINS).",
                status=403,
                code="origin_not_allowed",
            )
        asked = request.headers.get(b"access-control-request-headers", b"")
        headers = [
            (b"access-control-allow-methods", b"GET, HEAD, POST"),
            (b"access-control-max-age", b"%d" % _MAX_AGE_SECONDS),
        ]
        if _FIELD_NAMES.fullmatch(asked):  # `*` would not include Authorization
            headers.append((b"access-control-allow-headers", asked))
        reply.whole(204, b"", headers=headers)
