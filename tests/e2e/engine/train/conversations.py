"""Training conversations, and the parts that the evaluation shares."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.e2e.engine.train import phrases
from tests.e2e.engine.train.expressions import draw_expression
from tests.e2e.engine.train.names import training_city, training_place
from tests.e2e.engine.train.results import (
    Result,
    draw_math,
    draw_noise,
    draw_weather,
)
from tests.e2e.engine.train.toolsets import MathTool, Toolset, WeatherTool, draw_toolset

Message = dict[str, Any]


@dataclass(frozen=True)
class Call:
    name: str
    arguments: dict[str, str]


@dataclass(frozen=True)
class Exchange:
    """A question, the calls it leads to (none for small talk), their results, and the answer."""

    question: str
    calls: tuple[Call, ...] = ()
    contents: tuple[str, ...] = ()
    answer: str = ""

    def asked(self) -> list[Message]:
        return [{"role": "user", "content": self.question}]

    def called(self) -> list[Message]:
        """Returns the messages up to the tool results."""
        return [*self.asked(), assistant_calls(self.calls), *tool_messages(self.contents)]

    def answered(self) -> list[Message]:
        before = self.called() if self.calls else self.asked()
        return [*before, {"role": "assistant", "content": self.answer}]


def assistant_calls(calls: tuple[Call, ...]) -> Message:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": f"call_{index}",
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
            }
            for index, call in enumerate(calls)
        ],
    }


def tool_messages(contents: tuple[str, ...]) -> list[Message]:
    return [
        {"role": "tool", "tool_call_id": f"call_{index}", "content": text}
        for index, text in enumerate(contents)
    ]


@dataclass(frozen=True)
class Part:
    """Part of a question: its wording, the call for it, the result and the sentence in the answer."""

    name: str
    call: Call
    result: Result


def weather_part(tool: WeatherTool, city: str, result: Result, unit: str | None = None) -> Part:
    arguments = {tool.place: city}
    if unit and tool.unit:
        arguments[tool.unit] = unit
    return Part(city, Call(tool.name, arguments), result)


def math_part(tool: MathTool, expression: str, result: Result) -> Part:
    return Part(expression, Call(tool.name, {tool.expression: expression}), result)


def exchange(question: str, parts: list[Part]) -> Exchange:
    return Exchange(
        question,
        tuple(part.call for part in parts),
        tuple(part.result.content for part in parts),
        " ".join(part.result.sentence for part in parts),
    )


def draw_weather_part(rng: Random, tool: WeatherTool, unit: str | None = None) -> Part:
    place = training_place(rng)
    city = place[0] if rng.random() < 0.7 else training_city(rng)
    if rng.random() < 0.8:
        place = (city.split(",")[0], *place[1:])
    return weather_part(tool, city, draw_weather(rng, city, place), unit)


def draw_math_part(rng: Random, tool: MathTool) -> Part:
    expression = draw_expression(rng)
    return math_part(tool, expression, draw_math(rng, expression))


def _one_city(rng: Random, tools: Toolset) -> Exchange:
    assert tools.weather
    unit = rng.choice(("celsius", "fahrenheit")) if rng.random() < 0.2 else None
    part = draw_weather_part(rng, tools.weather, unit)
    question = phrases.weather_question(rng).format(city=part.name)
    if unit:
        spelling = rng.choice((unit, unit.capitalize()))
        question = question.rstrip("?.") + rng.choice(phrases.UNIT_ENDINGS).format(unit=spelling)
        question += rng.choice(("?", "", "."))
    return exchange(question, [part])


def _one_expression(rng: Random, tools: Toolset) -> Exchange:
    assert tools.math
    part = draw_math_part(rng, tools.math)
    spoken = part.name
    if rng.random() < 0.12:
        for sign, word in phrases.SPOKEN_OPERATORS.items():
            spoken = spoken.replace(f" {sign} ", f" {word} ")
    question = phrases.math_question(rng).format(expression=spoken)
    return exchange(question, [part])


def _two_cities(rng: Random, tools: Toolset) -> Exchange:
    assert tools.weather
    a, b = draw_weather_part(rng, tools.weather), draw_weather_part(rng, tools.weather)
    return _joined(rng, phrases.TWO_CITIES, a, b)


def _two_expressions(rng: Random, tools: Toolset) -> Exchange:
    assert tools.math
    a, b = draw_math_part(rng, tools.math), draw_math_part(rng, tools.math)
    return _joined(rng, phrases.TWO_EXPRESSIONS, a, b)


def _city_and_expression(rng: Random, tools: Toolset) -> Exchange:
    assert tools.weather
    assert tools.math
    a, b = draw_weather_part(rng, tools.weather), draw_math_part(rng, tools.math)
    if rng.random() < 0.5:
        return _joined(rng, phrases.CITY_AND_EXPRESSION, a, b)
    return _joined(rng, phrases.EXPRESSION_AND_CITY, b, a)


def _joined(rng: Random, questions: tuple[str, ...], a: Part, b: Part) -> Exchange:
    return exchange(rng.choice(questions).format(a=a.name, b=b.name), [a, b])


def _small_talk(rng: Random, _: Toolset) -> Exchange:
    question, answer = rng.choice(phrases.SMALL_TALK)
    return Exchange(question, answer=answer)


def _unknown(rng: Random, _: Toolset) -> Exchange:
    question = draw_noise(rng, rng.randint(2, 9)) + rng.choice(("", "?", "."))
    return Exchange(question, answer=phrases.FALLBACK)


_Draw = Callable[[Random, Toolset], Exchange]
_KINDS: tuple[tuple[_Draw, bool, bool, int], ...] = (  # how, needs weather, needs math, weight
    (_one_city, True, False, 30),
    (_one_expression, False, True, 30),
    (_two_cities, True, False, 10),
    (_two_expressions, False, True, 6),
    (_city_and_expression, True, True, 11),
    (_small_talk, False, False, 6),
    (_unknown, False, False, 5),
)


def draw_exchange(rng: Random, tools: Toolset) -> Exchange:
    """Draws a question of any kind; without the tool for it, the model says so."""
    draw, weather, math, _ = rng.choices(_KINDS, [kind[3] for kind in _KINDS])[0]
    if (weather and not tools.weather) or (math and not tools.math):
        with_all = Toolset(tools.weather or WeatherTool(), tools.math or MathTool())
        return Exchange(draw(rng, with_all).question, answer=phrases.NO_TOOL)
    drawn = draw(rng, tools)
    if drawn.calls and rng.random() < 0.05:
        return replace(drawn, question=f"{draw_noise(rng, rng.randint(2, 6))}. {drawn.question}")
    return drawn


@dataclass(frozen=True)
class Conversation:
    """A conversation rendered for training; with `last_only`, only the last answer is learnt."""

    messages: list[Message]
    tools: list[dict[str, Any]]
    last_only: bool = False


def draw_conversation(rng: Random, longest: int = 3) -> Conversation:
    """Draws one to `longest` exchanges.

    Sometimes the answer is requested without tools, as the orchestrator does at its limit of rounds.
    """
    tools = draw_toolset(rng)
    exchanges = [draw_exchange(rng, tools) for _ in range(min(longest, rng.choice((1, 1, 1, 1, 2, 3))))]
    messages = [message for turn in exchanges for message in turn.answered()]
    system = rng.choice(phrases.SYSTEM_PROMPTS)
    if system:
        messages.insert(0, {"role": "system", "content": system})
    if exchanges[-1].calls and rng.random() < 0.08:
        return Conversation(messages, [], last_only=True)
    return Conversation(messages, tools.specs)


def draw_copy(rng: Random) -> str:
    """Draws a text for the first lesson: repeating what the user said."""
    kind = rng.random()
    if kind < 0.35:
        return training_city(rng)
    if kind < 0.7:
        return draw_expression(rng)
    return draw_noise(rng, rng.randint(1, 4))
