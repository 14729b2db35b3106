"""Which side runs a tool: by its name, its parameters and the header."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.chat.execution import Execution, parse_execution, sides_of
from orchestrator.errors import InvalidRequest
from orchestrator.tools.calculator import calculate_math
from orchestrator.tools.toolbox import Toolbox
from orchestrator.tools.weather import Weather
from tests.services.orchestrator.chat.loop_requests import MATH, MINE
from tests.support.live import Live
from tests.support.scripted_engine import ScriptedEngine, call, stream, text, whole

WEATHER = Weather(source="sample", forecast_url="http://x", geocoding_url="http://x")
TOOLBOX = Toolbox([calculate_math, WEATHER.get_current_weather])


def tool(name: str = "get_current_weather", **properties: Any) -> Any:
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def side(given: Any, header: str | None = None) -> str:
    server, client, _ = sides_of([given], TOOLBOX, parse_execution(header))
    assert len(server | client) == 1
    return "server" if server else "client"


LOCATION = {"type": "string", "description": "City"}
SAME = [
    {"type": "function", "function": {"name": "get_current_weather"}},
    {"type": "function", "function": {"name": "get_current_weather", "parameters": None}},
    {"type": "function", "function": {"name": "get_current_weather", "parameters": {}}},
    {"type": "function", "function": {"name": "get_current_weather", "parameters": "odd"}},
    tool(location=LOCATION),
    tool(location=LOCATION, unit={"type": "string", "enum": ["celsius", "fahrenheit"]}),
    tool(location=LOCATION, unit={"type": ["string", "null"]}),
    tool(location=LOCATION, unit={"anyOf": [{"type": "string"}, {"type": "null"}]}),
    tool(location={}),
    tool(location=True),
    *TOOLBOX.specs(),
]
OTHER = [
    tool(city=LOCATION, country_code={"type": "string"}),
    tool(),
    tool(location=LOCATION, days={"type": "integer"}),
    tool(unit={"type": "string"}),
    tool(location={"type": "object"}),
    tool(location={"type": ["object", "array"]}),
    tool(location={"anyOf": [{"type": "object"}, {"type": "array"}]}),
    tool(location=LOCATION, unit={"enum": ["C", "F"]}),
    tool("calculate_math", a={"type": "number"}, b={"type": "number"}),
]


@pytest.mark.parametrize("given", SAME, ids=json.dumps)
def test_tool_of_the_server_is_run_there(given: Any) -> None:
    assert side(given) == "server"


@pytest.mark.parametrize("given", OTHER, ids=json.dumps)
def test_own_function_with_the_name_of_a_tool_is_the_clients(given: Any) -> None:
    assert side(given) == "client"
    name = given["function"]["name"]
    assert side(given, f"{name}=server") == "server"
    assert side(given, "server") == "server"
    (hint,) = sides_of([given], TOOLBOX, Execution())[2]
    assert f"X-Tool-Execution: {name}=server" in hint


@pytest.mark.parametrize(
    ("header", "server"),
    [
        (None, {"calculate_math", "get_current_weather"}),
        ("server", {"calculate_math", "get_current_weather"}),
        ("client", set()),
        ("calculate_math=client", {"get_current_weather"}),
        ("client, calculate_math=server", {"calculate_math"}),
        (" calculate_math = server , get_current_weather=client", {"calculate_math"}),
        ("unknown=client", {"calculate_math", "get_current_weather"}),
    ],
)
def test_header_assigns_single_tools(header: str | None, server: set[str]) -> None:
    assert sides_of([MATH, tool(location=LOCATION)], TOOLBOX, parse_execution(header))[0] == server


@pytest.mark.parametrize(
    "header", ["", "both", "x=", "=client", "x=both", "client,", "client,server", "client;x"]
)
def test_invalid_header_is_rejected(header: str) -> None:
    with pytest.raises(InvalidRequest, match="get_current_weather=client") as caught:
        parse_execution(header)
    assert caught.value.param == "x-tool-execution"


def test_tool_that_the_server_lacks_cannot_be_assigned_to_it() -> None:
    with pytest.raises(InvalidRequest, match="'my_tool' to the server, which has no such tool"):
        sides_of([MINE], TOOLBOX, parse_execution("my_tool=server"))
    assert side(MINE, "server") == "client"


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"function": {"name": "get_curent_weather"}}, "did you mean get_current_weather?"),
        ({"function": {"name": "get_weather"}}, "did you mean get_current_weather?"),
        ({"function": {"name": "zzz"}}, "GET /v1/tools lists the tools that it has"),
        (tool("get_curent_weather", location=LOCATION), "did you mean get_current_weather?"),
        (tool("get_weather", location=LOCATION), None),
        (MINE, None),
        ({"function": {"name": "w" * 100}}, None),
    ],
)
def test_misspelt_tool_gets_a_hint(given: Any, hint: str | None) -> None:
    hints = sides_of([given], TOOLBOX, Execution())[2]
    assert len(hints) == (hint is not None)
    assert hint is None or hint in hints[0]
    name = given["function"]["name"]
    assert sides_of([given], TOOLBOX, parse_execution(f"{name}=client"))[2] == []


def test_number_of_hints_is_limited() -> None:
    many = [{"function": {"name": f"calculate_mat{n}"}} for n in range(50)]
    assert len(sides_of(many, TOOLBOX, Execution())[2]) == 4


@pytest.mark.parametrize("streaming", [False, True])
async def test_hint_is_in_a_header_and_in_the_log(
    server: Live, engine: ScriptedEngine, streaming: bool, caplog: Any
) -> None:
    caplog.set_level("INFO", "orchestrator")
    engine.play(stream(*text("Hi")) if streaming else whole("Hi"))
    misspelt = {"type": "function", "function": {"name": "calculate_meth\u00e9"}}
    answer = await server.chat(tools=[misspelt], stream=streaming)
    assert "did you mean calculate_math?" in answer.headers["x-tool-hint"]
    assert "did you mean calculate_math?" in caplog.text or any(
        "calculate_math" in str(getattr(record, "fields", "")) for record in caplog.records
    )
    engine.play(whole("Hi"))
    assert "x-tool-hint" not in (await server.chat(tools=[MATH])).headers


async def test_own_function_gets_its_call_although_the_server_has_a_tool_of_that_name(
    server: Live, engine: ScriptedEngine
) -> None:
    own = tool("query_database", sql={"type": "string"})
    engine.play(whole(calls=[call("query_database", {"sql": "select 1"})]))
    answer = await server.chat(tools=[own, MATH])
    (made,) = answer.json()["choices"][0]["message"]["tool_calls"]
    assert json.loads(made["function"]["arguments"]) == {"sql": "select 1"}
    assert engine.requests[0].json["tools"][0] == own
    assert "query_database is run by you" in answer.headers["x-tool-hint"]


async def test_single_tool_is_left_to_the_client(server: Live, engine: ScriptedEngine) -> None:
    weather = {"type": "function", "function": {"name": "get_current_weather"}}
    engine.play(whole(calls=[call("get_current_weather", {"location": "Oslo"})]))
    answer = await server.chat(
        tools=[weather, MATH], headers={"X-Tool-Execution": "get_current_weather=client"}
    )
    assert answer.json()["choices"][0]["message"]["tool_calls"]
