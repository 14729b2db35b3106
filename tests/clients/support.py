"""Shared by the client suites: tools, questions, and one way to use sync and async clients."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Iterable
from typing import Any

import httpx
import openai

from tests.support.metrics import total
from tests.support.processes import MODEL, Service
from tests.support.scripted_engine import Exchange, whole

Json = dict[str, Any]
Client = openai.OpenAI | openai.AsyncOpenAI

WEATHER = {"type": "function", "function": {"name": "get_current_weather"}}
CALCULATOR = {"type": "function", "function": {"name": "calculate_math"}}
EMAIL = {
    "type": "function",
    "function": {
        "name": "send_email",
        "description": "Send an email",
        "parameters": {
            "type": "object",
            "properties": {"to": {"type": "string", "description": "Email address"}},
            "required": ["to"],
        },
    },
}

# Question, tools, number of calls to each, what the answer contains. The temperatures are sample data.
SERVER_TOOL_CASES = {
    "weather": (
        "What is the weather in San Francisco?", [WEATHER],
        {"get_current_weather": 1}, ["San Francisco", "14.6 °C"],
    ),
    "calculator": ("Calculate 123 * 456", [CALCULATOR], {"calculate_math": 1}, ["56088"]),
    "two cities": (
        "What is the weather in Paris and in Tokyo?", [WEATHER],
        {"get_current_weather": 2}, ["Paris", "12.3 °C", "Tokyo", "15.4 °C"],
    ),
    "both tools": (
        "What is the weather in Oslo, and what is 12 * 7?", [WEATHER, CALCULATOR],
        {"get_current_weather": 1, "calculate_math": 1}, ["Oslo", "5.7 °C", "84"],
    ),
}  # fmt: skip


def question(content: str, *tools: Json, **fields: Any) -> Json:
    """Builds the fields of a chat request with this question."""
    asked: Json = {"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}
    return {**asked, "tools": list(tools)} if tools else asked


def fault(**fields: Any) -> Json:
    """Builds the SDK argument for the field that makes the stand-in engine misbehave."""
    return {"extra_body": {"standin": fields}}


async def settle(result: Any) -> Any:
    """Returns the result of a method of the sync or the async client."""
    return await result if inspect.isawaitable(result) else result


async def collect(stream: AsyncIterable[Any] | Iterable[Any]) -> list[Any]:
    """Returns every chunk of a stream of the sync or the async client."""
    return [chunk async for chunk in stream] if isinstance(stream, AsyncIterable) else list(stream)


async def complete(client: Client, **request: Any) -> Any:
    """Returns the client's chat completion, or its stream with `stream=True`."""
    return await settle(client.chat.completions.create(**request))


async def streamed(client: Client, **request: Any) -> list[Any]:
    """Returns the chunks of a streamed chat completion."""
    return await collect(await complete(client, **request, stream=True))


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def metric(service: Service, name: str, **labels: str) -> float:
    """Returns the sum of a service's samples of that name with at least these labels."""
    return total(service.url, name, **labels)


def running(engine: Service) -> int:
    """Returns the number of requests that the stand-in engine is working on."""
    load: int = httpx.get(f"{engine.url}/load").json()["server_load"]
    return load


async def echo(exchange: Exchange) -> None:
    """A scripted reply whose text is the request's body."""
    await whole(exchange.request.body.decode())(exchange)
