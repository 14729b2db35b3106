"""Answers of the real engine through the loop: token data, truncated calls, tools that are withheld."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.e2e.engine.serve import RealEngine
from tests.support.processes import Service

from .test_conversation import ASKED

CALCULATOR: Any = {"type": "function", "function": {"name": "calculate_math"}}


def ask(url: str, content: str, **fields: Any) -> list[Any]:
    """Returns the chunks of an answer, or the whole answer as one."""
    body = {**ASKED, "messages": [{"role": "user", "content": content}], **fields}
    response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    assert response.status_code == 200, response.text
    if not fields.get("stream"):
        return [response.json()]
    return [json.loads(event[6:]) for event in response.text.split("\n\n") if event.startswith("data: {")]


def text_of(chunks: list[Any]) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(
        (choice.get("delta") or choice.get("message") or {}).get("content") or "" for choice in choices
    )


def tokens_of(chunks: list[Any]) -> list[Any]:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    ids = [token for choice in choices for token in choice.get("token_ids") or ()]
    entries = [entry for choice in choices for entry in (choice.get("logprobs") or {}).get("content") or ()]
    return ids or [entry["token"] for entry in entries]


@pytest.fixture(scope="module")
def tools(tandem: Service) -> list[Any]:
    """Returns the calculator with its schema, as the orchestrator sends it to the engine."""
    listed = httpx.get(f"{tandem.url}/v1/tools").json()
    return [tool for tool in listed if tool["function"]["name"] == "calculate_math"]


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("max_tokens", [3, 50])
@pytest.mark.parametrize("field", ["logprobs", "return_token_ids"])
async def test_token_data_are_the_engines(
    tandem: Service, engine: RealEngine, tools: list[Any], field: str, max_tokens: int, streaming: bool
) -> None:
    fields = {"tools": tools, "stream": streaming, "max_tokens": max_tokens, field: True}
    expected = ask(engine.url, "Hello", **fields)
    chunks = ask(tandem.url, "Hello", **fields)
    assert text_of(chunks) == text_of(expected)
    assert tokens_of(chunks) == tokens_of(expected) != []


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_token_data_after_a_call_are_those_of_the_answer(tandem: Service, streaming: bool) -> None:
    chunks = ask(tandem.url, "Calculate 12 * 34", tools=[CALCULATOR], logprobs=True, stream=streaming)
    written = "".join(tokens_of(chunks))
    assert text_of(chunks) in written
    assert "tool_call" not in written


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("max_tokens", [4, 8, 12, 20])
async def test_truncated_call_shows_no_markup(tandem: Service, max_tokens: int, streaming: bool) -> None:
    chunks = ask(tandem.url, "Calculate 12 * 34", tools=[CALCULATOR], max_tokens=max_tokens, stream=streaming)
    assert "<" not in text_of(chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] in ("length", "stop")


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("direct", [False, True], ids=["orchestrator", "engine"])
async def test_no_call_is_written_with_tool_choice_none(
    tandem: Service, engine: RealEngine, tools: list[Any], streaming: bool, direct: bool
) -> None:
    url = engine.url if direct else tandem.url
    fields = {"tools": tools, "tool_choice": "none", "stream": streaming, "max_tokens": 60}
    assert "<tool_call>" not in text_of(ask(url, "Calculate 12 * 34", **fields))


@pytest.mark.parametrize("mode", ["auto", "required"])
async def test_allowed_tools_are_honoured(tandem: Service, mode: str) -> None:
    other: Any = {"type": "function", "function": {"name": "get_current_weather"}}
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [CALCULATOR]}}
    chunks = ask(tandem.url, "Calculate 12 * 34", tools=[CALCULATOR, other], tool_choice=choice)
    assert "408" in text_of(chunks)
