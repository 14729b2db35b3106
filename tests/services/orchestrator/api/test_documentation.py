"""The documentation of the POST routes on the API page."""

from __future__ import annotations

import jsonschema_rs

from orchestrator.api.documentation import post_routes
from orchestrator.protocol import check_chat_request
from tests.support.live import Live
from tests.support.scripted_engine import ScriptedEngine, whole


async def test_every_post_route_is_documented(server: Live) -> None:
    documented = (await server.http.get("/openapi.json")).json()["paths"]
    for route in post_routes():
        assert "post" in documented[route]
        answer = await server.http.post(route, content=b"{")
        assert answer.status_code == 400, "the route is served"


async def test_example_is_a_request_that_the_service_accepts(server: Live, engine: ScriptedEngine) -> None:
    body = post_routes()["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]
    example = body["schema"]["example"]
    check_chat_request(example)
    jsonschema_rs.validate(body["schema"], example)
    engine.play(whole("Sunny."))
    answer = await server.http.post("/v1/chat/completions", json=example)
    assert answer.json()["choices"][0]["message"]["content"] == "Sunny."


async def test_errors_have_the_documented_format(server: Live) -> None:
    documented = post_routes()["/v1/embeddings"]["post"]["responses"]["default"]
    error = (await server.http.post("/v1/embeddings", content=b"[]")).json()
    jsonschema_rs.validate(documented["content"]["application/json"]["schema"], error)


def test_only_the_chat_route_documents_x_tool_execution() -> None:
    headers = {
        route: [parameter["name"] for parameter in item["post"]["parameters"]]
        for route, item in post_routes().items()
    }
    assert headers.pop("/v1/chat/completions") == ["X-Tool-Execution"]
    assert not any(headers.values())
