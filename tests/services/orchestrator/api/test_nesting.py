"""One limit for the nesting of a request, whichever route reads it, and an error that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.live import Live, live
from tests.support.scripted_engine import ScriptedEngine, whole

MATH = '{"type": "function", "function": {"name": "calculate_math"}}'
TOOL = '{"type": "function", "function": {"name": "own", "parameters": %s}}'
AT_MOST = 254
PLACES = {  # the field, the JSON around the nested value, and the levels around it
    "messages": ('"messages": [{"role": "user", "content": %s}]', 3),
    "tools": (f'"tools": [{MATH}, {TOOL}]', 4),
    "metadata": ('"metadata": %s', 1),
    "tool_choice": ('"tool_choice": %s', 1),
}


def nested(levels: int, kind: str) -> str:
    return "[" * levels + "]" * levels if kind == "list" else '{"a":' * levels + "1" + "}" * levels


def chat_body(field: str, levels: int, kind: str, tools: bool) -> str:
    text, around = PLACES[field]
    parts = [text % nested(levels - around, kind)]
    if field != "messages":
        parts.append('"messages": [{"role": "user", "content": "x"}]')
    if tools and field != "tools":
        parts.append(f'"tools": [{MATH}]')
    return "{" + ", ".join(parts) + "}"


@pytest.mark.parametrize("kind", ["list", "object"])
@pytest.mark.parametrize("field", PLACES)
async def test_deeper_nesting_than_the_limit_is_a_400_that_names_the_field(
    server: Live, engine: ScriptedEngine, field: str, kind: str
) -> None:
    engine.otherwise = whole("ok")
    for tools in (False, True):
        for levels in (100, AT_MOST - 1, AT_MOST, AT_MOST + 1, 400, 1000):
            sent = chat_body(field, levels, kind, tools)
            for headers in ({}, {"X-Tool-Execution": "client"}):
                answer = await server.http.post("/v1/chat/completions", content=sent, headers=headers)
                assert answer.status_code == (200 if levels <= AT_MOST else 400), (levels, answer.text)
                if levels > AT_MOST:
                    error = answer.json()["error"]
                    assert (error["param"], error["code"]) == (field, "nested_too_deeply")
                    assert str(AT_MOST) in error["message"]


@pytest.mark.parametrize("route", ["/v1/completions", "/v1/embeddings", "/v1/responses"])
@pytest.mark.parametrize("stream", ["true", "false"])
async def test_every_route_has_the_same_limit(
    server: Live, engine: ScriptedEngine, route: str, stream: str
) -> None:
    engine.otherwise = whole("ok")
    for levels, status in ((AT_MOST, 200), (AT_MOST + 1, 400), (1020, 400)):
        sent = f'{{"stream": {stream}, "stream_options": {{}}, "input": {nested(levels - 1, "list")}}}'
        answer = await server.http.post(route, content=sent)
        assert answer.status_code == status
        assert status == 200 or answer.json()["error"]["param"] == "input"


async def test_nesting_beyond_the_parser_is_a_400_as_well(server: Live) -> None:
    for levels in (1030, 100_000):
        sent = f'{{"messages": {nested(levels, "list")}}}'
        answer = await server.http.post("/v1/chat/completions", content=sent)
        assert answer.status_code == 400


async def test_many_values_side_by_side_are_not_nested(engine: ScriptedEngine) -> None:
    engine.otherwise = whole("ok")
    part: dict[str, Any] = {"type": "text", "text": "x"}
    async with live(engine.url) as server:
        messages = [{"role": "user", "content": [part] * 3}] * 500
        assert (await server.chat(messages=messages)).status_code == 200
