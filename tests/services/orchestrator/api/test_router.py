"""Finding the endpoint for a path."""

from __future__ import annotations

import re
from typing import Any

import openai
import pytest

from infra.serving.ingress.load_balancer import PUBLIC_PATHS
from orchestrator.api.head import Head
from orchestrator.api.router import not_found
from tests.support.live import Live, live
from tests.support.scripted_engine import ScriptedEngine, whole


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions?a=b", "/v1/chat/completions"),
        ("/v1/chat%2fcompletions", "/v1/chat/completions"),
        ("http://x/v1/models", "/v1/models"),
        ("/v1/models/org/name", "/v1/models/{model}"),
        ("/v1/models/%0a", "/v1/models/{model}"),
        ("/V1/chat/completions", "unknown"),
        ("/v1/../health", "unknown"),
    ],
)
async def test_endpoint_is_found_for_a_target(server: Live, target: str, route: str) -> None:
    head = Head(b"POST", target.encode())
    assert server.app.router.find(head).route == route
    assert head.target == target.encode()


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/v1/models/", "/v1/models"),
        ("/v1/models/org/name/", "/v1/models/org/name"),
        ("//v1//models//org/name", "/v1/models/org/name"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/chat/completions//", "/v1/chat/completions"),
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/completions", "/v1/completions"),
        ("/embeddings", "/v1/embeddings"),
        ("/responses", "/v1/responses"),
        ("/models", "/v1/models"),
        ("/models/org/name", "/v1/models/org/name"),
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/v1/responses", "/v1/responses"),
        ("/openai/models", "/v1/models"),
        ("/openai/deployments/m/chat/completions", "/v1/chat/completions"),
        ("/openai/deployments/org/name/chat/completions", "/v1/chat/completions"),
        ("/openai/deployments/org%2Fname/embeddings", "/v1/embeddings"),
        ("http://x//v1/chat/completions", "/v1/chat/completions"),
    ],
)
async def test_other_spellings_of_an_api_path_are_served(server: Live, target: str, path: str) -> None:
    for query in ("", "?api-version=2024-10-21"):
        head = Head(b"POST", (target + query).encode())
        assert server.app.router.find(head) is not server.app.router.unknown
        assert head.target == (path + query).encode()


@pytest.mark.parametrize(
    "target",
    [
        "//metrics", "/v1/metrics", "/openai/metrics", "/metrics/", "//ready", "/ready/", "/v1//ready",
        "/v1", "/v1/", "//", "/openai", "/openai/deployments/m", "/openai/deployments//chat/completions/x",
        "/v1/%2e%2e/metrics", "/v1/./models/..", "/openai/deployments/m/models",
    ],
)  # fmt: skip
async def test_other_spellings_of_other_paths_are_unknown(server: Live, target: str) -> None:
    """A load balancer that forwards /v1/* and //v1/* hides /metrics, however it is spelled."""
    assert server.app.router.find(Head(b"GET", target.encode())) is server.app.router.unknown


async def test_client_of_azure_works_unchanged(engine: ScriptedEngine) -> None:
    key = "sk-0123456789abcdef"
    async with live(engine.url, BOOTSTRAP_API_KEY=key) as server:
        client = openai.AsyncAzureOpenAI(
            azure_endpoint=server.url, api_key=key, api_version="2024-10-21", max_retries=0
        )
        async with client:
            engine.play(whole("ok"))
            answer = await client.chat.completions.create(
                model="org/name", messages=[{"role": "user", "content": "x"}]
            )
            assert answer.choices[0].message.content == "ok"
        assert engine.requests[0].json["model"] == "org/name"


@pytest.mark.parametrize("tools", [None, [{"type": "function", "function": {"name": "calculate_math"}}]])
@pytest.mark.parametrize("given", [{}, {"model": None}, {"model": "gpt-4o"}])
async def test_deployment_is_the_model(server: Live, engine: ScriptedEngine, given: Any, tools: Any) -> None:
    engine.play(whole("ok"))
    await server.http.post(
        "/openai/deployments/org/name/chat/completions?api-version=2024-10-21",
        json={"messages": [{"role": "user", "content": "x"}], "tools": tools, **given},
    )
    assert engine.requests[0].path == "/v1/chat/completions"
    assert engine.requests[0].json["model"] == "org/name"


async def test_models_are_listed_under_their_other_path(server: Live) -> None:
    for path in ("/v1/models/", "/models", "//v1/models"):
        assert (await server.http.get(f"{server.url}{path}")).json()["object"] == "list"


def test_long_path_is_truncated_in_the_message() -> None:
    assert len(not_found(Head(b"GET", b"/" + b"a" * 10_000)).message) < 300


async def test_unknown_path_below_v1_is_answered_with_the_routes(server: Live) -> None:
    message = (await server.http.get("/v1/nothing")).json()["error"]["message"]
    assert "/docs" not in message
    named = set(re.findall(r"/v1/[a-z/_]+", message.partition(";")[2]))
    served = set((await server.http.get("/openapi.json")).json()["paths"])
    assert named == {path for path in served if path.startswith("/v1/") and "{" not in path}
    assert "/docs" in (await server.http.get("/nothing")).json()["error"]["message"]


@pytest.mark.parametrize("pattern", [path for paths in PUBLIC_PATHS.values() for path in paths])
def test_docs_are_not_named_where_a_load_balancer_hides_them(pattern: str) -> None:
    path = pattern.replace("*", "/nothing").replace("//nothing", "/nothing")
    assert "/docs" not in not_found(Head(b"GET", path.encode())).message or path == "/health"
