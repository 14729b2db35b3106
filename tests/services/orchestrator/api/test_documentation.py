"""The documentation of the POST routes on the API page."""

from __future__ import annotations

import hashlib
import json
import re
import time

import jsonschema_rs
import pytest

from orchestrator.api.auth import OPEN_ROUTES
from orchestrator.api.by_model import FORM_ROUTES, ROUTES
from orchestrator.api.documentation import audio_routes, error_responses, pooling_routes, post_routes
from orchestrator.limits.rules import Limits
from orchestrator.protocol import check_chat_request
from tests.support.live import Live, live
from tests.support.scripted_engine import ScriptedEngine, body, whole
from tests.support.several_models import several_models


async def test_every_post_route_is_documented(server: Live) -> None:
    documented = (await server.http.get("/openapi.json")).json()["paths"]
    for route in post_routes():
        assert "post" in documented[route]
        answer = await server.http.post(route, content=b"{")
        assert answer.status_code == 400, "the route is served"


@pytest.mark.parametrize(
    ("kind", "route", "sent"),
    [
        ("reranker", "/v1/rerank", {"query": "q", "documents": ["a", "b"], "top_n": 1}),
        ("embedding", "/v1/rerank", {"query": "q", "documents": "a"}),
        ("reranker", "/v1/score", {"queries": "q", "documents": ["a", "b"]}),
        ("reranker", "/v1/classify", {"input": ["a"]}),
        ("embedding", "/v1/pooling", {"input": "a", "dimensions": 8}),
    ],
)
async def test_routes_of_rerankers_and_embedding_models_are_documented(
    kind: str, route: str, sent: dict[str, object]
) -> None:
    async with several_models({"model": "chat"}, {"model": "other", "kind": kind}) as models:
        paths = (await models.server.http.get("/openapi.json")).json()["paths"]
        schema = paths[route]["post"]["requestBody"]["content"]["application/json"]["schema"]
        jsonschema_rs.validate(schema, sent)
        models.engines["other"].play(body({"data": []}))
        assert (await models.server.http.post(route, json=sent)).status_code == 200
        assert "/v1/chat/completions" in paths


async def test_every_route_that_a_model_has_is_documented_with_its_body() -> None:
    kinds = ("chat", "embedding", "reranker", "speech-to-text")
    async with several_models(*({"model": kind, "kind": kind} for kind in kinds)) as models:
        documented = (await models.server.http.get("/openapi.json")).json()["paths"]
    for route in ROUTES:
        (media_type,) = documented[route]["post"]["requestBody"]["content"]
        assert media_type == ("multipart/form-data" if route in FORM_ROUTES else "application/json"), route


async def test_routes_that_no_model_has_are_not_documented(server: Live) -> None:
    documented = (await server.http.get("/openapi.json")).json()["paths"]
    assert not documented.keys() & (pooling_routes() | audio_routes()).keys()
    async with several_models({"model": "bge", "kind": "embedding"}) as models:
        documented = (await models.server.http.get("/openapi.json")).json()["paths"]
        assert "/v1/chat/completions" not in documented
        assert "/v1/classify" not in documented
        assert {"/v1/embeddings", "/v1/pooling", "/v1/rerank", "/v1/score"} <= documented.keys()


async def test_mcp_is_documented_where_it_is_served(server: Live, engine: ScriptedEngine) -> None:
    described = (await server.http.get("/openapi.json")).json()["paths"]["/mcp"]["post"]
    body = described["requestBody"]["content"]["application/json"]["schema"]
    jsonschema_rs.validate(body, body["example"])
    for sent, status in ((json.dumps(body["example"]), "200"), ("{", "400"), ('{"jsonrpc": "2.0"}', "202")):
        answer = await server.http.post("/mcp", content=sent)
        assert str(answer.status_code) == status
        documented = described["responses"][status].get("content")
        assert bool(documented) == bool(answer.content)
        if documented:
            jsonschema_rs.validate(documented["application/json"]["schema"], answer.json())
    async with live(engine.url, MCP_SERVE="none") as without:
        assert "/mcp" not in (await without.http.get("/openapi.json")).json()["paths"]


async def test_example_is_a_request_that_the_service_accepts(server: Live, engine: ScriptedEngine) -> None:
    body = post_routes()["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]
    example = body["schema"]["example"]
    check_chat_request(example)
    jsonschema_rs.validate(body["schema"], example)
    engine.play(whole("Sunny."))
    answer = await server.http.post("/v1/chat/completions", json=example)
    assert answer.json()["choices"][0]["message"]["content"] == "Sunny."


async def test_errors_have_the_documented_format(server: Live) -> None:
    schema = (await server.http.get("/openapi.json")).json()["components"]["schemas"]["Error"]
    error = (await server.http.post("/v1/embeddings", content=b"[]")).json()
    jsonschema_rs.validate(schema, error)
    for response in error_responses().values():
        jsonschema_rs.validate(schema, response["content"]["application/json"]["example"])


@pytest.mark.parametrize("status", ["400", "401", "403", "413", "429", "503"])
async def test_documented_error_is_the_one_that_is_sent(status: str, engine: ScriptedEngine) -> None:
    settings = {
        "API_KEYS": f"alice:{hashlib.sha256(b'a-long-secret-key').hexdigest()}",
        "KEY_REQUESTS_PER_MINUTE": "300",
        "MAX_BODY_BYTES": "1024",
        "ENGINE_WAIT_SECONDS": "0",
    }
    async with live("http://127.0.0.1:9" if status == "503" else engine.url, **settings) as server:
        headers = {} if status == "401" else {"authorization": "Bearer a-long-secret-key"}
        content = "x" * 2000 if status == "413" else "Hi"
        [alice] = server.app._accounts
        if status == "429":
            assert alice.requests is not None
            alice.requests.roll(time.time())
            alice.requests.spent = 300
        if status == "403":
            alice.set(Limits(models=frozenset({"small"})), shared=False)
        body = {"model": "large", "messages": [{"role": "user", "content": content}]}
        if status == "400":
            del body["messages"]
        answer = await server.http.post("/v1/chat/completions", json=body, headers=headers)
    assert str(answer.status_code) == status
    documented = error_responses()[status]["content"]["application/json"]["example"]["error"]
    sent = answer.json()["error"]
    if status == "503":
        sent["message"] = documented["message"]  # it says why this engine does not answer
    sent, documented = [re.sub(r"\d+", "1", json.dumps(one)) for one in (sent, documented)]
    assert sent == documented


@pytest.mark.parametrize("settings", [{}, {"BOOTSTRAP_API_KEY": "a-long-secret-key"}])
async def test_description_requires_a_key_where_the_server_does(
    settings: dict[str, str], engine: ScriptedEngine
) -> None:
    async with live(engine.url, **settings) as server:
        described = (await server.http.get("/openapi.json")).json()
        for path, item in described["paths"].items():
            for method, operation in item.items():
                answer = await server.http.request(method, path.replace("{model}", "x"))
                assert (answer.status_code == 401) == bool(operation.get("security")), path
    schemes = set(described["components"].get("securitySchemes", {}))
    assert schemes == ({"bearer", "x-api-key", "api-key"} if settings else set())
    assert set(described["paths"]) - OPEN_ROUTES


@pytest.mark.parametrize("header", [{"authorization": "Bearer {}"}, {"x-api-key": "{}"}, {"api-key": "{}"}])
async def test_all_documented_schemes_are_accepted(header: dict[str, str], engine: ScriptedEngine) -> None:
    async with live(engine.url, BOOTSTRAP_API_KEY="a-long-secret-key") as server:
        headers = {name: value.format("a-long-secret-key") for name, value in header.items()}
        assert (await server.http.get("/v1/tools", headers=headers)).status_code == 200


def test_only_the_chat_route_documents_x_tool_execution() -> None:
    headers = {
        route: [parameter["name"] for parameter in item["post"]["parameters"]]
        for route, item in post_routes().items()
    }
    assert headers.pop("/v1/chat/completions") == ["X-Tool-Execution"]
    assert not any(headers.values())
