"""Finds the endpoint that serves a request."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import NotFound
from .endpoint import Endpoint
from .head import Head


class Router:
    """Endpoints by path.

    Args:
        endpoints: the endpoints. Their `route` is a path in which `{name}` matches any text.
        unknown: the endpoint for all other paths, which rejects them and names them in metrics.
    """

    def __init__(self, endpoints: Iterable[Endpoint], unknown: Endpoint) -> None:
        self.unknown = unknown
        self._exact: dict[bytes, Endpoint] = {}
        self._patterns: list[tuple[re.Pattern[bytes], Endpoint]] = []
        for endpoint in endpoints:
            literal, placeholder, _ = endpoint.route.partition("{")
            if placeholder:
                self._patterns.append((re.compile(re.escape(literal.encode()) + b"(?s:.+)"), endpoint))
            else:
                self._exact[literal.encode()] = endpoint

    def find(self, head: Head) -> Endpoint:
        """Returns the endpoint for the head's path.

        Raises:
            InvalidRequest: the request target is invalid.
        """
        endpoint = self._exact.get(head.target)
        if endpoint is not None:
            return endpoint
        path = head.path
        endpoint = self._exact.get(path)
        if endpoint is not None:
            return endpoint
        for pattern, candidate in self._patterns:
            if pattern.fullmatch(path):
                return candidate
        return self.unknown


def not_found(head: Head) -> NotFound:
    path = head.target.partition(b"?")[0].decode("latin-1")
    where = f"{head.method.decode()} {path[:200]}"
    return NotFound(f"Unknown route: {where}; /docs lists all routes", code="unknown_route")
