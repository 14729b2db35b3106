from __future__ import annotations

from tests.support.live import Live


async def test_each_route_describes_its_json(server: Live) -> None:
    described = (await server.http.get("/openapi.json")).json()
    answers = {
        path: item["get"]["responses"]["200"]["content"]
        for path, item in described["paths"].items()
        if "get" in item
    }
    assert {
        "/health",
        "/ready",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/tools",
        "/v1/usage",
    } < answers.keys()
    for path, content in answers.items():
        for media_type, answer in content.items():
            assert answer["schema"], f"{path}: {media_type} has no schema"
