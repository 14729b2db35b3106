from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.support.live import Live, live, until
from tests.support.scripted_engine import ScriptedEngine, body, scripted_engine, whole

ON_DEMAND = {"ENGINE_STARTUP_SECONDS": "20", "ENGINE_WAIT_SECONDS": "0"}


async def until_ready(server: Live) -> None:
    while (await server.http.get("/ready")).status_code != 200:
        pass


async def test_models_of_the_engine_are_listed(server: Live) -> None:
    await until_ready(server)
    assert [model.id async for model in server.openai.models.list()] == ["scripted"]
    assert (await server.openai.models.retrieve("scripted")).id == "scripted"


async def test_models_are_listed_without_an_engine() -> None:
    async with live("http://127.0.0.1:9", DEFAULT_MODEL="org/name") as server:
        answer = await server.http.get("/v1/models")
        assert answer.status_code == 200
        assert answer.json()["data"][0]["id"] == "org/name"
        assert (await server.openai.models.retrieve("org/name")).id == "org/name"
        missing = await server.http.get("/v1/models/other")
        assert missing.status_code == 404
        assert missing.json()["error"]["code"] == "model_not_found"
        ready = await server.http.get("/ready")
        assert ready.status_code == 503
        assert "127.0.0.1:9" in ready.json()["reason"]
        assert (await server.http.get("/health")).json() == {"status": "ok"}


async def test_models_are_still_listed_after_the_engine_stops(server: Live, engine: ScriptedEngine) -> None:
    await until_ready(server)
    await engine.stop()
    while (await server.http.get("/ready")).status_code != 503:
        pass
    assert (await server.http.get("/v1/models")).json()["data"][0]["id"] == "scripted"


async def test_tools_are_listed_in_the_format_of_requests(server: Live, engine: ScriptedEngine) -> None:
    tools: list[Any] = (await server.http.get("/v1/tools")).json()
    assert {tool["function"]["name"] for tool in tools} == {
        "get_current_weather",
        "calculate_math",
        "query_database",
    }
    engine.play(whole("ok"))
    await server.openai.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}], tools=tools
    )
    assert {tool.pop("server") for tool in tools} == {None}
    assert engine.requests[0].json["tools"] == tools


async def test_documentation_lists_every_route(server: Live) -> None:
    assert (await server.http.get("/docs")).status_code == 200
    paths = (await server.http.get("/openapi.json")).json()["paths"]
    assert set(paths) == {
        "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages",
        "/v1/responses/{response_id}", "/v1/responses/{response_id}/input_items",
        "/v1/messages/count_tokens", "/v1/models", "/v1/models/{model}", "/v1/tools", "/v1/usage", "/health",
        "/ready", "/metrics", "/mcp",
    }  # fmt: skip


async def test_metrics_have_the_documented_names(server: Live, engine: ScriptedEngine) -> None:
    engine.play(whole("ok"))
    await server.chat()
    metrics = await server.metrics()
    for name in (
        "tool_calls_total", "tool_call_duration_seconds", "request_latency_seconds", "requests_total",
        "time_to_first_token_seconds", "tool_rounds", "tokens_total", "engine_requests_in_flight",
        "engine_up", "engine_retries_total",
    ):  # fmt: skip
        assert f"# TYPE {name.removesuffix('_total')}" in metrics
    assert 'requests_total{key_name="-",route="/v1/chat/completions",status="200"} 1.0' in metrics
    assert f'engine_requests_in_flight{{engine="127.0.0.1:{engine.port}"}} 0.0' in metrics


async def test_unknown_paths_do_not_become_labels(server: Live) -> None:
    await server.http.get("/some/random/path")
    metrics = await server.metrics()
    assert "random" not in metrics
    assert 'route="unknown",status="404"' in metrics


@pytest.mark.parametrize("model", ["x%0Ay", "%C3%9F%0A", "a%2Fb%0D%0Ac"])
async def test_model_with_a_line_end_is_not_found(server: Live, model: str) -> None:
    answer = await server.http.get(f"/v1/models/{model}")
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


async def test_metrics_have_the_documented_content_type(server: Live) -> None:
    described = (await server.http.get("/openapi.json")).json()["paths"]
    assert list(described["/metrics"]["get"]["responses"]["200"]["content"]) == ["text/plain"]
    assert (await server.http.get("/metrics")).headers["content-type"].startswith("text/plain")
    assert "404" in described["/v1/models/{model}"]["get"]["responses"]


async def test_description_names_the_servers_tools(server: Live) -> None:
    described = (await server.http.get("/openapi.json")).json()["paths"]["/v1/chat/completions"]["post"]
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    tool = schema["properties"]["tools"]["items"]["properties"]["function"]["properties"]["name"]
    assert tool["anyOf"][0]["enum"] == ["calculate_math", "get_current_weather", "query_database"]
    message = schema["properties"]["messages"]["items"]
    assert message["required"] == ["role"]


async def test_models_say_whether_they_sleep(asleep: ScriptedEngine) -> None:
    async with live(asleep.url, DEFAULT_MODEL="scripted", **ON_DEMAND) as server:
        await until(lambda: server.app._fleets.first.discovery.state() == "sleeping")
        assert await _model_state(server) == {"state": "sleeping", "expected_seconds": 20}
        assert (await server.http.get("/ready")).json()["state"] == "sleeping"
        assert (await server.http.get("/v1/models")).status_code == 200
        await server.chat()
        starting = await _model_state(server)
        assert starting["state"] == "starting"
        assert 18 <= starting["remaining_seconds"] <= 20
        ready = await server.http.get("/ready")
        assert ready.status_code == 503
        assert "being started" in ready.json()["reason"]
        await asleep.start(asleep.port)
        await until(lambda: server.app._fleets.first.discovery.state() == "ready")
        assert await _model_state(server) == {"state": "ready"}
        assert (await server.http.get("/ready")).json()["state"] == "ready"


STATUS = {
    "state": "starting",
    "step": "weights",
    "step_seconds": 12.5,
    "seconds": {"image": 60.2, "process": 9},
    "previous_seconds": {"image": 58, "weights": 30},
    "remaining_seconds": 77.4,
}


async def test_ready_shows_the_steps_that_the_engine_reports(asleep: ScriptedEngine) -> None:
    async with scripted_engine() as status:
        status.pages["/"] = body(STATUS)
        port = {"ENGINE_STATUS_PORT": str(status.port)}
        async with live(
            asleep.url, DEFAULT_MODEL="scripted", VLLM_API_KEY="secret", **ON_DEMAND, **port
        ) as server:
            starts = server.app._fleets.first.discovery.starts
            await until(lambda: starts.report_of_engine is not None)
            ready = (await server.http.get("/ready")).json()
            assert {name: ready[name] for name in STATUS} == STATUS
            assert (await _model_state(server))["step"] == "weights"
            answer = await server.chat()
            assert answer.headers["retry-after"] == "60"
            assert "about 78 s remain" in answer.json()["error"]["message"]
            await asleep.start(asleep.port)
            await until(lambda: server.app._fleets.first.discovery.state() == "ready")
            assert "step" not in (await server.http.get("/ready")).json()
            await asleep.stop()
            await status.stop()
            await until(lambda: server.app._fleets.first.discovery.state() == "sleeping")
            await status.start(status.port)


async def test_start_of_an_engine_that_is_always_on_is_shown_too(asleep: ScriptedEngine) -> None:
    async with scripted_engine() as status:
        status.pages["/"] = body(STATUS)
        async with live(asleep.url, ENGINE_STATUS_PORT=str(status.port)) as server:
            await until(lambda: server.app._fleets.first.discovery.state() == "starting")
            ready = (await server.http.get("/ready")).json()
            assert (ready["state"], ready["step"]) == ("starting", "weights")


async def test_models_of_engines_that_are_always_on_have_a_state(server: Live) -> None:
    while (await server.http.get("/ready")).status_code != 200:
        pass
    assert (await server.http.get("/v1/models")).json()["data"][0]["tandem"] == {"state": "ready"}


async def test_models_say_that_they_take_images(engine: ScriptedEngine) -> None:
    async with live(engine.url, MODEL_TAKES_IMAGES="true") as server:
        await until_ready(server)
        listed = (await server.http.get("/v1/models")).json()["data"][0]["tandem"]
    assert listed == {"state": "ready", "takes_images": True}


async def _model_state(server: Live) -> dict[str, Any]:
    model = await server.openai.models.retrieve("scripted")
    state = (model.model_extra or {})["tandem"]
    assert isinstance(state, dict)
    listed = (await server.http.get("/v1/models")).json()["data"][0]["tandem"]
    assert listed.keys() == state.keys()
    return state


def test_routes_need_no_second_pydantic() -> None:
    """FastAPI imports pydantic.v1 for the first parameter or answer that it has to build a model for."""
    code = (
        "import sys\n"
        "from orchestrator.app import Orchestrator\n"
        "from orchestrator.settings import Settings\n"
        "Orchestrator(Settings.from_environment({'VLLM_URL': 'http://127.0.0.1:9'}))\n"
        "assert 'fastapi.routing' in sys.modules\n"
        "assert 'pydantic.v1' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": "services/orchestrator"})
