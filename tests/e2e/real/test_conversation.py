"""Requests of a client to both tiers, with the real engine."""

from __future__ import annotations

import json
from typing import Any, cast

import httpx
import jsonschema_rs
import openai
import pytest

from tests.clients.support import CALCULATOR, EMAIL, WEATHER, Client, collect, complete, question, text_of
from tests.clients.test_python_client import (  # noqa: F401 (the same tests as for the stand-in)
    test_request_id_is_the_clients,
    test_streamed_usage_is_only_sent_on_request,
)
from tests.support.openmeteo import OpenMeteo
from tests.support.processes import MODEL, Service

# With --tool-strict-level function, vLLM enforces the schemas that are marked `strict`.
STRICT_EMAIL: Any = {"type": "function", "function": {**cast(Any, EMAIL["function"]), "strict": True}}
ASKED: dict[str, Any] = {"temperature": 0, "model": "tiny"}


async def test_two_calls_in_one_turn_lead_to_one_answer(client: Client, open_meteo: OpenMeteo) -> None:
    first, second = (place["name"] for place in open_meteo.places[:2])
    asked = question(f"What is the weather in {first} and {second}?", WEATHER, CALCULATOR) | ASKED
    answer = await complete(client, **asked, extra_body={"tandem": {"events": True}})
    events = answer.model_extra["tandem"]["events"]
    called = [json.loads(e["arguments"])["location"] for e in events if e["type"] == "tool_call.started"]
    assert called == [first, second]
    assert answer.choices[0].finish_reason == "stop"
    text = answer.choices[0].message.content
    assert first in text
    assert second in text
    assert answer.choices[0].message.tool_calls is None


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_clients_own_tool_goes_back_to_the_client(client: Client, streaming: bool) -> None:
    named = {"type": "function", "function": {"name": "send_email"}}
    asked = question("Write to me", STRICT_EMAIL, CALCULATOR, tool_choice=named, max_tokens=200) | ASKED
    if streaming:
        chunks = await collect(await complete(client, **asked, stream=True))
        pieces = [d for c in chunks if c.choices for d in c.choices[0].delta.tool_calls or []]
        assert {piece.index for piece in pieces} == {0}
        name = "".join(piece.function.name or "" for piece in pieces)
        arguments = "".join(piece.function.arguments or "" for piece in pieces)
        reason = [c.choices[0].finish_reason for c in chunks if c.choices][-1]
    else:
        choice = (await complete(client, **asked)).choices[0]
        (call,) = choice.message.tool_calls
        name, arguments, reason = call.function.name, call.function.arguments, choice.finish_reason
    assert (name, reason) == ("send_email", "tool_calls")
    jsonschema_rs.validate(STRICT_EMAIL["function"]["parameters"], json.loads(arguments))


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "calculate_math"}}])
async def test_forced_call_is_valid_and_the_answer_follows(
    client: Client, tandem: Service, choice: Any
) -> None:
    tools = httpx.get(f"{tandem.url}/v1/tools").json()
    schema = next(t["function"]["parameters"] for t in tools if t["function"]["name"] == "calculate_math")
    asked = question("Calculate 12 * 34", CALCULATOR, tool_choice=choice) | ASKED
    answer = await complete(client, **asked, extra_body={"tandem": {"events": True}})
    events = answer.model_extra["tandem"]["events"]
    jsonschema_rs.validate(schema, json.loads(events[0]["arguments"]))
    assert "408" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


async def test_streamed_text_equals_the_unstreamed_text(client: Client) -> None:
    asked = question("Calculate 123 * 456", CALCULATOR) | ASKED
    whole = (await complete(client, **asked)).choices[0].message.content
    chunks = await collect(await complete(client, **asked, stream=True))
    assert text_of(chunks) == whole
    assert "56088" in whole
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 3


@pytest.mark.parametrize("tools", [[], [CALCULATOR]], ids=["relayed", "tools run"])
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_prompt_that_is_too_long_is_rejected(client: Client, tools: list[Any], streaming: bool) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length") as caught:
        await complete(client, **question("7 " * 5000, *tools) | ASKED, stream=streaming)
    assert caught.value.param == "input_tokens"


async def test_models_are_the_engines(client: Client, tandem: Service) -> None:
    assert [model["id"] for model in httpx.get(f"{tandem.url}/v1/models").json()["data"]] == ["tiny", MODEL]


async def test_unknown_model_is_the_engines_404(client: Client) -> None:
    with pytest.raises(openai.NotFoundError, match="tiny"):
        await complete(client, **question("Hi") | {"model": "gpt-none"})
