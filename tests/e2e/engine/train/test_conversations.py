"""The training data contains nothing from the evaluation, and every answer follows from the results."""

import json
import re
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.tools.toolbox import Toolbox
from orchestrator.tools.weather import Weather
from tests.e2e.engine.cases import Cases
from tests.e2e.engine.train import phrases, results
from tests.e2e.engine.train.conversations import Conversation, draw_conversation
from tests.e2e.engine.train.expressions import is_held_out
from tests.e2e.engine.train.names import HELD_OUT_CITIES, HELD_OUT_PLACES

conversations = st.integers(0, 2**32).map(lambda seed: draw_conversation(Random(seed)))


def arguments(conversation: Conversation) -> list[str]:
    """Returns the values of all arguments of all calls."""
    calls = [call for message in conversation.messages for call in message.get("tool_calls", [])]
    return [value for call in calls for value in json.loads(call["function"]["arguments"]).values()]


@given(conversations)
def test_held_out_cities_and_expressions_are_not_in_the_training_data(conversation: Conversation) -> None:
    for value in arguments(conversation):
        assert value.split(",")[0] not in HELD_OUT_CITIES
        assert not (re.search(r"\d", value) and is_held_out(value))


@given(conversations)
def test_every_number_in_an_answer_appears_earlier_in_the_conversation(conversation: Conversation) -> None:
    said = ""
    for message in conversation.messages:
        if message["role"] == "assistant" and message["content"]:
            for number in re.findall(r"\d[\d.e+-]*\d|\d", message["content"]):
                assert number in said
        said += f"{message['content']} {message.get('tool_calls', '')}\n"


@given(conversations)
def test_each_call_has_a_result_and_names_a_tool_of_the_request(conversation: Conversation) -> None:
    names = {tool["function"]["name"] for tool in conversation.tools}
    for message, following in zip(conversation.messages, conversation.messages[1:], strict=False):
        for call in message.get("tool_calls", []):
            assert following["role"] == "tool"
            assert conversation.last_only or call["function"]["name"] in names


def test_hundred_held_out_places_have_different_names() -> None:
    assert len(HELD_OUT_PLACES) == len(HELD_OUT_CITIES) == 100


def test_held_out_expressions_are_about_one_in_ten() -> None:
    held_out = sum(is_held_out(f"{a} * {b}") for a in range(100) for b in range(100))
    assert 700 < held_out < 1300


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (
            {"location": "Oslo, Norway", "temperature": -3.5, "unit": "celsius", "conditions": "fog"},
            "The weather in Oslo is -3.5°C, fog.",
        ),
        ({"temperature": 70, "unit": "fahrenheit"}, "The weather in Paris is 70°F."),
        ({"temperature": 21}, "The weather in Paris is 21 degrees."),
        (
            {"location": "Rome", "temperature": 15.8, "unit": "celsius", "source": results.SAMPLE_SOURCE},
            "The weather in Rome is 15.8°C (sample data).",
        ),
    ],
)
def test_weather_sentence(report: dict[str, Any], sentence: str) -> None:
    assert results.weather_sentence("Paris", report) == sentence


@pytest.mark.parametrize(
    ("error", "gist"),
    [
        ("division by zero", "division by zero"),
        ("no place fits 'X'. Places of that name: Y", "no place fits 'X'"),
        ("'X, Y' is not in the sample data, which has Z", "'X, Y' is not in the sample data"),
        ("this is not an expression: look at it", "this is not an expression"),
    ],
)
def test_gist(error: str, gist: str) -> None:
    assert results.gist(error) == gist


async def test_sample_reports_have_the_shape_of_the_weather_tool() -> None:
    toolbox = Toolbox([Weather("sample").get_current_weather])
    real = await toolbox.call("get_current_weather", '{"location": "Oslo"}', request_id="test")
    ours = results.weather_report(("Oslo", "Oslo", "Norway"), 6.0, "celsius", Random(0), sample=True)
    report = json.loads(real.content)
    assert real.content == results.compact(report)
    assert list(report) == list(ours)
    assert report | {"temperature": 6.0} == ours


def test_evaluation_is_the_same_in_every_run() -> None:
    assert Cases(7).groups() == Cases(7).groups()


def test_evaluation_contains_nothing_from_the_training_data() -> None:
    groups = Cases(7).groups()
    for case in groups["held-out cities *"] + groups["held-out expressions *"]:
        [call] = case.expected.calls
        [value] = call.arguments.values()
        assert value in HELD_OUT_CITIES or is_held_out(value)


def test_held_out_phrases_are_not_training_phrases() -> None:
    assert not set(phrases.WEATHER_QUESTIONS) & set(phrases.HELD_OUT_WEATHER_QUESTIONS)
    assert not set(phrases.MATH_QUESTIONS) & set(phrases.HELD_OUT_MATH_QUESTIONS)
