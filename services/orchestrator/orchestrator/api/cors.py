"""Access from web pages of other origins (CORS), off by default."""

from __future__ import annotations

from collections.abc import Sequence

from .head import Head


class Cors:
    """The header fields that let pages of some origins read answers. Cookies are not involved.

    Args:
        origins: origins such as https://app.example.com, or `*` for all.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def lines(self, head: Head) -> bytes:
        """Returns the header lines for the answer to a request."""
        if self._any:
            return b"access-control-allow-origin: *\r\naccess-control-expose-headers: *\r\n"
        origin = head.headers.get(b"origin", b"")
        if origin not in self._origins:
            return b"vary: origin\r\n"
        return (
            b"access-control-allow-origin: %b\r\naccess-control-expose-headers: *\r\nvary: origin\r\n"
        ) % origin


def is_preflight(head: Head) -> bool:
    return head.method == b"OPTIONS" and b"access-control-request-method" in head.headers
