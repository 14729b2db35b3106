"""The FastAPI routes are handled like all others: ids, keys, methods, metrics and logs."""

from __future__ import annotations

import json
import logging

import pytest

from tests.support.live import Live, live
from tests.support.scripted_engine import ScriptedEngine


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/v1/tools", "/metrics", "/nowhere"])
async def test_every_answer_has_a_request_id(server: Live, path: str) -> None:
    given = await server.http.get(path, headers={"x-request-id": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    first, second = [(await server.http.get(path)).headers["x-request-id"] for _ in range(2)]
    assert first != second
    assert len(first) == 32


async def test_routes_are_counted_by_their_pattern(server: Live) -> None:
    for path in ("/v1/models/a/b", "/v1/models/c", "/made-up-1", "/made-up-2"):
        assert (await server.http.get(path)).status_code == 404
    metrics = await server.metrics()
    assert 'requests_total{key_name="-",route="/v1/models/{model}",status="404"} 2.0' in metrics
    assert 'requests_total{key_name="-",route="unknown",status="404"} 2.0' in metrics
    assert "made-up" not in metrics


async def test_only_failures_of_polled_routes_are_logged(
    server: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    logger = logging.getLogger("orchestrator")
    monkeypatch.setattr(logger, "handle", lambda record: lines.append(record.fields))
    logger.setLevel(logging.INFO)
    await server.http.get("/health")
    await server.http.get("/v1/tools")
    await server.http.get("/nowhere", headers={"x-request-id": "mine-2"})
    logger.setLevel(logging.NOTSET)
    assert [(line["route"], line["status"]) for line in lines] == [("/v1/tools", 200), ("unknown", 404)]
    assert lines[1]["request_id"] == "mine-2"


async def test_answers_close_their_connections_while_the_service_drains(server: Live) -> None:
    assert "connection" not in (await server.http.get("/health")).headers
    server.server.in_flight.draining = True
    answer = await server.http.get("/health")
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert json.loads(answer.content) == {"status": "ok"}


async def test_only_listed_routes_work_without_a_key(engine: ScriptedEngine) -> None:
    async with live(engine.url, BOOTSTRAP_API_KEY="a-long-secret-key") as server:
        for path, status in {
            "/health": 200, "/metrics": 200, "/v1/models": 200, "/v1/models/x": 404, "/docs": 200,
            "/openapi.json": 200, "/nothing": 404, "/v1/tools": 401, "/v1/chat/completions": 405,
        }.items():  # fmt: skip
            assert (await server.http.get(path)).status_code == status
        key = {"authorization": "Bearer a-long-secret-key"}
        assert (await server.http.get("/v1/tools", headers=key)).status_code == 200
        assert (
            'requests_total{key_name="bootstrap",route="/v1/tools",status="200"} 1.0'
            in await server.metrics()
        )


async def test_health_is_answered_whatever_the_number_of_requests_in_flight(engine: ScriptedEngine) -> None:
    async with live(engine.url, MAX_IN_FLIGHT="1") as server:
        server.server.in_flight._limit = 0
        assert (await server.chat()).status_code == 429
        assert (await server.http.get("/health")).status_code == 200


@pytest.mark.patches_methods
async def test_error_in_the_app_is_reported_as_a_500_in_openais_format(
    server: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> bytes:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(server.app.telemetry, "exposition", broken)
    answer = await server.http.get("/metrics", headers={"x-request-id": "r-1"})
    assert answer.status_code == 500
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert "r-1" in answer.text
    assert "secret detail" not in answer.text
