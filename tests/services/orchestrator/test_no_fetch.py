"""The server never fetches a URL that a client puts in a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.live import Live
from tests.support.scripted_engine import ScriptedEngine, call, whole


class Trap:
    """A listener in place of an internal service. It never answers."""

    def __init__(self) -> None:
        self.visits = 0
        self.url = ""

    async def visit(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()


@pytest.fixture
async def trap() -> AsyncIterator[Trap]:
    trap = Trap()
    server = await asyncio.start_server(trap.visit, "127.0.0.1", 0)
    trap.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/internal/secret"
    yield trap
    server.close()
    await server.wait_closed()


def schemas(url: str) -> list[Any]:
    """Returns schemas with the URL in every place that a library might resolve."""
    keywords = ("$schema", "$ref", "$dynamicRef", "$recursiveRef", "$id", "id", "$vocabulary")
    top = [{keyword: url, "type": "object"} for keyword in keywords if keyword != "$vocabulary"]
    nested = [{"type": "object", "properties": {"x": {keyword: url}}} for keyword in keywords]
    hidden = [
        {"$defs": {"a": {"$schema": url, "$ref": url}}, "$ref": "#/$defs/a"},
        {"$id": url, "$ref": "other.json"},
        {"allOf": [{"$ref": f"{url}#/definitions/a"}]},
        {"type": "object", "properties": {"x": {"contentMediaType": url, "format": "uri", "default": url}}},
        {"$vocabulary": {url: True}},
    ]
    return [*top, *nested, *hidden]


def tool(schema: Any, name: str = "mine") -> Any:
    return {"type": "function", "function": {"name": name, "parameters": schema}}


@pytest.mark.parametrize("scheme", ["http", "file"])
async def test_schemas_of_clients_are_never_resolved(
    server: Live, engine: ScriptedEngine, trap: Trap, scheme: str
) -> None:
    url = trap.url if scheme == "http" else "file:///etc/hostname"
    engine.otherwise = whole("Hi")
    for schema in schemas(url):
        wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
        for fields in (
            {"tools": [tool(schema)]},
            {"tools": [tool(schema), tool(None, "calculate_math")]},
            {"tools": [tool(schema, "calculate_math")]},
            {"tools": [tool(None, "calculate_math")], "response_format": wanted},
        ):
            answer = await server.chat(**fields)
            assert answer.status_code == 200, answer.text
            assert engine.requests[-1].json["messages"][0]["content"] == "Hi"
    assert trap.visits == 0


async def test_health_is_answered_while_schemas_refer_to_a_silent_host(
    server: Live, engine: ScriptedEngine
) -> None:
    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()
        writer.close()

    silent = await asyncio.start_server(wait, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/"
    engine.otherwise = whole("Hi")
    async with asyncio.timeout(5):
        answers = await asyncio.gather(
            *(server.chat(tools=[tool({"$schema": url})]) for _ in range(5)), server.http.get("/health")
        )
    assert {answer.status_code for answer in answers} == {200}
    silent.close()


async def test_urls_in_messages_and_arguments_are_not_fetched(
    server: Live, engine: ScriptedEngine, trap: Trap
) -> None:
    engine.play(
        whole(calls=[call("calculate_math", {"expression": trap.url})]),
        whole(calls=[call("get_current_weather", {"location": trap.url})]),
        whole(calls=[call("query_database", {"table": trap.url})]),
        whole("Done."),
    )
    names = ("calculate_math", "get_current_weather", "query_database")
    image = {"type": "image_url", "image_url": {"url": trap.url}}
    messages = [{"role": "user", "content": [image, {"type": "text", "text": trap.url}]}]
    answer = await server.chat(messages=messages, tools=[tool(None, name) for name in names])
    assert answer.json()["choices"][0]["message"]["content"] == "Done."
    assert trap.visits == 0
