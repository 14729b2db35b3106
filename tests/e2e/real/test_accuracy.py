"""50 cities and 50 expressions that the model has never seen, with tools run by the server."""

from __future__ import annotations

import asyncio
import itertools
import json
from random import Random
from typing import Any

import openai
import pytest

from orchestrator.errors import ToolError
from orchestrator.tools.calculator import calculate_math
from tests.clients.support import CALCULATOR, WEATHER, Json
from tests.e2e.engine.cases import LONGEST_RESULT
from tests.e2e.engine.evaluate import SEED
from tests.e2e.engine.train.expressions import draw_expression
from tests.e2e.engine.train.names import HELD_OUT_PLACES
from tests.support.openmeteo import OpenMeteo

FLOOR = 0.95
CASES = 50
AT_ONCE = 4


async def ask(client: openai.AsyncOpenAI, question: str, *, streaming: bool) -> tuple[list[Json], str]:
    """Returns the tool calls with their results, and the answer's text."""
    fields: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": question}],
        "tools": [WEATHER, CALCULATOR],
        "temperature": 0,
        "extra_body": {"tandem": {"events": True}},
    }
    if not streaming:
        answer = await client.chat.completions.create(**fields)
        events = (answer.model_extra or {})["tandem"]["events"]
        return [e for e in events if e["type"] == "tool_call.finished"], answer.choices[
            0
        ].message.content or ""
    events, text, finishes = [], "", []
    async for chunk in await client.chat.completions.create(**fields, stream=True):
        event = (chunk.model_extra or {}).get("tandem")
        if event and event["type"] == "tool_call.finished":
            events.append(event)
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finishes += [choice.finish_reason] if choice.finish_reason else []
    assert finishes == ["stop"]
    return events, text


async def share_right(client: openai.AsyncOpenAI, cases: list[Any], right: Any, *, streaming: bool) -> float:
    free = asyncio.Semaphore(AT_ONCE)

    async def one(case: Any) -> bool:
        async with free:
            question, *expected = case
            calls, text = await ask(client, question, streaming=streaming)
            good: bool = right(calls, text, *expected)
            if not good:
                print(f"  wrong: {question!r}: {[(c['arguments'], c['result']) for c in calls]} -> {text!r}")
            return good

    outcomes = await asyncio.gather(*map(one, cases))
    return sum(outcomes) / len(outcomes)


def right_weather(calls: list[Json], text: str, city: str, temperature: float) -> bool:
    return (
        [json.loads(call["arguments"]) for call in calls] == [{"location": city}]
        and city in text
        and str(temperature) in text
    )


def right_result(calls: list[Json], text: str, expression: str) -> bool:
    if [json.loads(call["arguments"]) for call in calls] != [{"expression": expression}]:
        return False
    outcome = json.loads(calls[0]["result"])
    if "error" in outcome:  # an expression may divide by zero: the answer must say so, without a number
        return "could not" in text
    return calls[0]["result"].removeprefix('{"result":').removesuffix("}") in text


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_held_out_cities(
    asking: openai.AsyncOpenAI, open_meteo: OpenMeteo, streaming: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert open_meteo.temperature
    cases = [
        (f"What is the weather in {place['name']}?", place["name"], open_meteo.temperature(place["latitude"]))
        for place in open_meteo.places[:CASES]
    ]
    assert len(cases) == CASES <= len(HELD_OUT_PLACES)
    with capsys.disabled():
        share = await share_right(asking, cases, right_weather, streaming=streaming)
        how = "streamed" if streaming else "not streamed"
        print(f"\n  {share:.0%} of {CASES} held-out cities right ({how})")
    assert share >= FLOOR


def fits_the_model(expression: str) -> bool:
    """Excludes powers, whose results can have hundreds of digits; the tiny model cannot copy those."""
    try:
        return len(str(calculate_math(expression)["result"])) <= LONGEST_RESULT
    except ToolError:
        return True


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_held_out_expressions(
    asking: openai.AsyncOpenAI, streaming: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = Random(SEED)
    drawn = (draw_expression(rng, held_out=True) for _ in itertools.count())
    expressions = list(itertools.islice(filter(fits_the_model, drawn), CASES))
    cases = [(f"Calculate {expression}", expression) for expression in expressions]
    with capsys.disabled():
        share = await share_right(asking, cases, right_result, streaming=streaming)
        how = "streamed" if streaming else "not streamed"
        print(f"\n  {share:.0%} of {CASES} held-out expressions right ({how})")
    assert share >= FLOOR
