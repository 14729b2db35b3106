"""Finding the endpoint for a path."""

from __future__ import annotations

import pytest

from orchestrator.api.head import Head
from orchestrator.api.router import not_found
from tests.support.live import Live


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions?a=b", "/v1/chat/completions"),
        ("/v1/chat%2fcompletions", "/v1/chat/completions"),
        ("http://x/v1/models", "/v1/models"),
        ("/v1/models/org/name", "/v1/models/{model}"),
        ("/v1/models/%0a", "/v1/models/{model}"),
        ("/v1/models/", "unknown"),
        ("/v1/chat/completions/", "unknown"),
        ("//v1/chat/completions", "unknown"),
        ("/V1/chat/completions", "unknown"),
        ("/v1/../health", "unknown"),
        ("/", "unknown"),
    ],
)
async def test_endpoint_is_found_for_a_target(server: Live, target: str, route: str) -> None:
    assert server.app.router.find(Head(b"POST", target.encode())).route == route


def test_long_path_is_truncated_in_the_message() -> None:
    assert len(not_found(Head(b"GET", b"/" + b"a" * 10_000)).message) < 300
