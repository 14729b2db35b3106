"""Finds the endpoint that serves a request."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote_from_bytes

from ..errors import NotFound
from .cors import is_preflight
from .endpoint import Endpoint
from .head import Head

_SLASHES = re.compile(rb"/{2,}")
_AZURE_DEPLOYMENT = re.compile(
    rb"/openai/deployments/(.+?)/((?:chat/)?completions|embeddings|audio/(?:transcriptions|translations))",
    re.DOTALL,
)
_PREFIXES = re.compile(rb"^(?:/openai)?(?:/v1)*(?=/)")
_OF_THE_API = re.compile(
    rb"/*(?:v1|openai|audio|chat|completions|embeddings|responses|messages|models|mcp)(?![a-z])"
)

API_ROUTES = (
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages",
    "/v1/messages/count_tokens", "/v1/models", "/v1/tools", "/v1/usage", "/mcp",
)  # fmt: skip
"""What an error about an unknown path below /v1 names."""


class Router:
    """Endpoints by path.

    Args:
        endpoints: the endpoints. Their `route` is a path in which `{name}` matches any text.
        unknown: the endpoint for all other paths, which rejects them and names them in metrics.
        preflight: the endpoint for browsers' preflight requests, if pages of other origins have access.
    """

    def __init__(
        self, endpoints: Iterable[Endpoint], unknown: Endpoint, preflight: Endpoint | None = None
    ) -> None:
        self.unknown = unknown
        self._preflight = preflight
        self._exact: dict[bytes, Endpoint] = {}
        self._patterns: list[tuple[re.Pattern[bytes], Endpoint]] = []
        for endpoint in endpoints:
            literal, placeholder, _ = endpoint.route.partition("{")
            if placeholder:
                self._patterns.append((re.compile(re.escape(literal.encode()) + b"(?s:.+)"), endpoint))
            else:
                self._exact[literal.encode()] = endpoint

    def find(self, head: Head) -> Endpoint:
        """Returns the endpoint for the head's path. Other spellings of an API path are rewritten in the head.

        Raises:
            InvalidRequest: the request target is invalid.
        """
        endpoint = self._exact.get(head.target) or self._find(head)
        if self._preflight is not None and endpoint is not self.unknown and is_preflight(head):
            return self._preflight
        return endpoint

    def _find(self, head: Head) -> Endpoint:
        path = head.path
        endpoint = self._match(path)
        if endpoint is not None:
            return endpoint
        spelled, deployment = canonical(path)
        # Only API paths have other spellings: proxies in front hide /metrics and /ready by their path.
        endpoint = self._match(spelled) if spelled.startswith(b"/v1/") else None
        if endpoint is None:
            return self.unknown
        head.target = quote_from_bytes(spelled).encode() + (b"?" + head.query if head.query else b"")
        head.deployment = deployment.decode(errors="replace")
        return endpoint

    def _match(self, path: bytes) -> Endpoint | None:
        endpoint = self._exact.get(path)
        if endpoint is None and not path.endswith(b"/"):
            for pattern, candidate in self._patterns:
                if pattern.fullmatch(path):
                    return candidate
        return endpoint


def canonical(path: bytes) -> tuple[bytes, bytes]:
    """Returns the API path that a client means, and the model in one of Azure's paths.

    Clients repeat or omit `/v1` because their base URLs differ, and join URLs with too many slashes.
    """
    path = _SLASHES.sub(b"/", path).rstrip(b"/")
    deployment = _AZURE_DEPLOYMENT.fullmatch(path)
    if deployment is not None:
        return b"/v1/" + deployment[2], deployment[1]
    return b"/v1" + _PREFIXES.sub(b"", path, count=1), b""


def not_found(head: Head) -> NotFound:
    """Returns the error for an unknown path.

    It refers to /docs where the client has it: a load balancer that forwards only the API hides /docs too.
    """
    path = head.target.partition(b"?")[0].decode("latin-1")
    where = f"{head.method.decode()} {path[:200]}"
    hint = (
        f"the routes are {', '.join(API_ROUTES)}"
        if _OF_THE_API.match(head.target)
        else "/docs lists all routes"
    )
    return NotFound(f"Unknown route: {where}; {hint}", code="unknown_route")
