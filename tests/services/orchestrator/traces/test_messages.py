"""Traces contain messages only on request, and only so much of them."""

from __future__ import annotations

import json

import pytest

from tests.services.orchestrator.chat.loop_requests import MATH
from tests.support.scripted_engine import ScriptedEngine, call, stream, text, whole

from .traced import closed, found, traced

CAPTURE = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"}


async def test_messages_are_included_on_request(engine: ScriptedEngine) -> None:
    engine.play(whole(calls=[call("calculate_math", {"expression": "20+22"}, id="c1")]), whole("It is 42."))
    async with traced(engine, **CAPTURE) as one:
        await one.server.chat("What is 20+22?", tools=[MATH])
        await closed(one)
        first, tool, second = found(one.root, "invoke_agent").children
    assert json.loads(first.attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "What is 20+22?"}]}
    ]
    [said] = json.loads(first.attributes["gen_ai.output.messages"])
    assert said["parts"][0]["name"] == "calculate_math"
    assert json.loads(tool.attributes["gen_ai.tool.call.arguments"]) == {"expression": "20+22"}
    assert "42" in tool.attributes["gen_ai.tool.call.result"]
    assert "gen_ai.input.messages" not in second.attributes
    [answer] = json.loads(second.attributes["gen_ai.output.messages"])
    assert answer["parts"] == [{"type": "text", "content": "It is 42."}]


@pytest.mark.parametrize("streamed", [False, True])
async def test_relayed_answers_are_included_on_request(engine: ScriptedEngine, streamed: bool) -> None:
    engine.play(stream(*text("Hel", "lo")) if streamed else whole("Hello"))
    async with traced(engine, **CAPTURE) as one:
        await one.server.chat(stream=streamed)
        await closed(one)
        [said] = json.loads(found(one.root, "chat").attributes["gen_ai.output.messages"])
    assert said["parts"] == [{"type": "text", "content": "Hello"}]


async def test_included_messages_are_bounded(engine: ScriptedEngine) -> None:
    engine.play(stream(*text(*["word " * 100] * 200)))
    async with traced(engine, OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="200", **CAPTURE) as one:
        await one.server.chat("x" * 100_000, stream=True)
        await closed(one)
        chat = found(one.root, "chat")
    assert len(chat.attributes["gen_ai.input.messages"]) < 300
    assert len(chat.attributes["gen_ai.output.messages"]) < 400
