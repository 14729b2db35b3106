"""Responses and Messages with the server's tools, on the real engine: the protocol, not the model's wit."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.support.live import events_of
from tests.support.openai_types import check, check_response_events
from tests.support.processes import Service

SUM = "Calculate 123 * 456"
BOTH = "What is 12 * 7? And what is the weather in Paris?"
FORECAST = '{"location":"Paris","temperature":21.5,"unit":"celsius","conditions":"sunny"}'
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"location": {"type": "string", "description": "The city"}},
    "required": ["location"],
}
# With a schema of strings, the tiny model fills the JSON with the white space that vLLM's grammar allows.
ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {"result": {"type": "integer"}},
    "required": ["result"],
    "additionalProperties": False,
}
MATH: Any = {"type": "function", "name": "calculate_math"}
MINE: Any = {
    "type": "function",
    "name": "weather_forecast",
    "description": "Get the weather",
    "parameters": PARAMETERS,
}
ASKED: dict[str, Any] = {"model": "tiny", "temperature": 0}


@pytest.fixture
async def claude(tandem: Service) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=tandem.url, api_key="x", max_retries=0, timeout=180) as made:
        yield made


def texts_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_response_with_a_tool_of_the_server(tandem: Service, streaming: bool) -> None:
    request = {**ASKED, "input": SUM, "tools": [MATH], "max_output_tokens": 200, "stream": streaming}
    async with httpx.AsyncClient(timeout=180) as http:
        answer = await http.post(f"{tandem.url}/v1/responses", json=request)
    assert answer.status_code == 200, answer.text
    if streaming:
        seen = [event for event in events_of(answer.text) if isinstance(event, dict)]
        kinds = check_response_events(seen)
        assert kinds.count("response.output_text.delta") > 1
        response = seen[-1]["response"]
    else:
        response = answer.json()
        check(response)
    called, message = response["output"]
    assert (called["type"], called["server_label"], called["status"]) == ("mcp_call", "tandem", "completed")
    assert "56088" in called["output"]
    assert "56088" in message["content"][0]["text"]


@pytest.mark.parametrize("repeats_results", [True, False], ids=["all items", "no results"])
async def test_response_to_a_mixed_turn(asking: openai.AsyncOpenAI, repeats_results: bool) -> None:
    history: list[Any] = [{"role": "user", "content": BOTH}]
    options: Any = {**ASKED, "tools": [MATH, MINE], "max_output_tokens": 200}
    first = await asking.responses.create(input=history, **options)
    assert [item.type for item in first.output] == ["mcp_call", "function_call"]
    items = [item.model_dump(exclude_unset=True) for item in first.output]
    if not repeats_results:
        items = [{**item, "output": None} for item in items if item["type"] == "mcp_call"] + items[1:]
    history += items
    history.append({"type": "function_call_output", "call_id": items[-1]["call_id"], "output": FORECAST})
    second = await asking.responses.create(input=history, **options)
    assert "84" in second.output_text
    assert "21.5" in second.output_text


async def test_response_with_a_format(asking: openai.AsyncOpenAI) -> None:
    wanted: Any = {"format": {"type": "json_schema", "name": "answer", "schema": ANSWER, "strict": True}}
    response = await asking.responses.create(
        input=SUM, tools=[MATH], text=wanted, max_output_tokens=200, **ASKED
    )
    assert [item.type for item in response.output] == ["mcp_call", "message"]
    assert json.loads(response.output_text) == {"result": 56088}


async def test_message_to_a_mixed_turn(claude: anthropic.AsyncAnthropic) -> None:
    history: list[Any] = [{"role": "user", "content": BOTH}]
    own = {"name": "weather_forecast", "description": "Get the weather", "input_schema": PARAMETERS}
    tools: Any = [{"name": "calculate_math", "input_schema": {"type": "object"}}, own]
    options: Any = {"model": "tiny", "max_tokens": 200, "tools": tools, "extra_body": {"temperature": 0}}
    async with claude.messages.stream(messages=history, **options) as streaming:
        first = await streaming.get_final_message()
    kinds: list[str] = [block.type for block in first.content]
    assert kinds == ["mcp_tool_use", "mcp_tool_result", "tool_use"]
    assert first.stop_reason == "tool_use"
    call: Any = first.content[-1]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": FORECAST}
    history += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = await claude.messages.create(messages=history, **options)
    assert second.stop_reason == "end_turn"
    assert texts_of(second)


async def test_message_with_a_format(claude: anthropic.AsyncAnthropic) -> None:
    message = await claude.messages.create(
        model="tiny",
        max_tokens=200,
        messages=[{"role": "user", "content": SUM}],
        tools=[{"name": "calculate_math", "input_schema": {"type": "object"}}],
        output_config={"format": {"type": "json_schema", "schema": ANSWER}},
        extra_body={"temperature": 0},
    )
    kinds: list[str] = [block.type for block in message.content]
    assert kinds == ["mcp_tool_use", "mcp_tool_result", "text"]
    assert json.loads(texts_of(message)) == {"result": 56088}
