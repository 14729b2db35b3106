"""The wiring: how settings affect the service."""

from __future__ import annotations

import pytest

from orchestrator.api.documentation import post_routes
from orchestrator.api.head import Head
from orchestrator.app import Orchestrator
from orchestrator.errors import SettingsError
from orchestrator.settings import Settings
from tests.support.live import live
from tests.support.scripted_engine import ScriptedEngine, call, whole


def orchestrator(**environment: str) -> Orchestrator:
    return Orchestrator(Settings.from_environment({"VLLM_URL": "http://127.0.0.1:9", **environment}))


async def test_post_routes_match_the_documentation() -> None:
    router = orchestrator().router
    for route in post_routes():
        endpoint = router.find(Head(b"POST", route.encode()))
        assert (endpoint.route, endpoint.limited) == (route, True)
    assert len(post_routes()) == 6


async def test_error_for_an_unknown_attached_tool_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"ATTACH_TOOLS='nothing'.*calculate_math"):
        orchestrator(ATTACH_TOOLS="nothing")


async def test_error_for_a_missing_tool_module_names_the_setting() -> None:
    with pytest.raises(SettingsError, match=r"^TOOL_MODULES='no\.such\.module'"):
        orchestrator(TOOL_MODULES="no.such.module")


@pytest.mark.parametrize(
    ("attached", "offered"),
    [
        ("calculate_math", ["calculate_math"]),
        ("all", ["calculate_math", "get_current_weather", "query_database"]),
    ],
)
async def test_attached_tools_are_offered_if_a_request_has_none(
    engine: ScriptedEngine, attached: str, offered: list[str]
) -> None:
    async with live(engine.url, ATTACH_TOOLS=attached) as server:
        engine.play(whole(calls=[call("calculate_math", {"expression": "1+1"})]), whole("2"))
        answer = (await server.chat()).json()
    assert answer["choices"][0]["message"]["content"] == "2"
    assert [tool["function"]["name"] for tool in engine.requests[0].json["tools"]] == offered
