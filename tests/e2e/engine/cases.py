"""The evaluation's cases: places, expressions and wordings not trained on, and our tools' real results."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from orchestrator.tools.calculator import calculate_math
from orchestrator.tools.climate import CITIES
from orchestrator.tools.toolbox import Toolbox
from orchestrator.tools.weather import Weather
from tests.e2e.engine.train import phrases, results, toolsets
from tests.e2e.engine.train.conversations import (
    Exchange,
    Message,
    Part,
    exchange,
    math_part,
    weather_part,
)
from tests.e2e.engine.train.expressions import draw_expression
from tests.e2e.engine.train.names import HELD_OUT_PLACES
from tests.e2e.engine.train.results import Result
from tests.e2e.engine.train.toolsets import MathTool, Toolset, WeatherTool

LONGEST_RESULT = 40  # characters of a number; factorials have hundreds of digits
OURS = Toolset(WeatherTool(), MathTool(), (toolsets.stranger("query_database"),))
BAD_EXPRESSIONS = (
    *("1 / 0", "10 / (5 - 5)", "7 % 0", "2 +", "3 * * 4", "(4 + 5", "9**9**9**9", "sqrt(-1)", "log(0)"),
    *(
        "foo(3)",
        "x + 1",
        "5 5",
        "2 $ 3",
        "sqrt",
        "factorial(1000)",
        "factorial(2.5)",
        "10**2000",
        "1e999 * 10",
    ),
    *("(-8)**0.5", "asin(2)"),
)


@dataclass(frozen=True)
class Case:
    """A test conversation: the history, the expected exchange and the request's tools."""

    expected: Exchange
    tools: Toolset = OURS
    history: tuple[Message, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    tools_in_answer: bool = True


class RealTools:
    """Our own tools, whose results are what the orchestrator would send to the model."""

    def __init__(self) -> None:
        self._toolbox = Toolbox([calculate_math, Weather("sample").get_current_weather])

    def weather(self, city: str, unit: str | None = None) -> Result:
        """Returns the sample source's report for a city, or its error if the city is unknown."""
        arguments = {"location": city} | ({"unit": unit} if unit else {})
        content = self._call("get_current_weather", arguments)
        report = json.loads(content)
        if "error" in report:
            return results.weather_failure(city, report["error"])
        return Result(content, results.weather_sentence(city, report))

    def math(self, expression: str) -> Result:
        content = self._call("calculate_math", {"expression": expression})
        if "error" in json.loads(content):
            return results.math_failure(expression, json.loads(content)["error"])
        number = content.removeprefix('{"result":').removesuffix("}")
        return Result(content, results.math_sentence(expression, number))

    def _call(self, name: str, arguments: dict[str, str]) -> str:
        return asyncio.run(self._toolbox.call(name, json.dumps(arguments), request_id="evaluation")).content


class Cases:
    """Draws the cases of each group from one seed."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(seed)
        self._tools = RealTools()

    def groups(self) -> dict[str, list[Case]]:
        """Returns all groups by name; those whose name ends in * have targets."""
        return {
            "held-out cities *": [self._city(place) for place in HELD_OUT_PLACES],
            "held-out expressions *": self._many(100, self._held_out_expression),
            "weather tool's results *": [self._sample_city(city.name) for city in CITIES],
            "weather tool's errors *": [self._unknown_city(place[0]) for place in HELD_OUT_PLACES[:50]],
            "calculator's results *": self._many(100, self._spelled_expression),
            "calculator's errors *": [self._asked(self._math(text)) for text in BAD_EXPRESSIONS],
            "two cities": self._many(50, self._two_cities),
            "a city and an expression": self._many(50, self._city_and_expression),
            "two expressions": self._many(50, self._two_expressions),
            "renamed weather tool": self._many(50, self._renamed_weather),
            "renamed calculator": self._many(50, self._renamed_math),
            "held-out wording": self._many(50, self._held_out_wording),
            "unit asked for": self._many(50, self._with_unit),
            "follow-up question": self._many(50, self._follow_up),
            "tool_choice required": self._many(20, lambda: self._forced("required")),
            "tool_choice by name": self._many(20, self._named),
            "answer without tools": self._many(20, self._answer_without_tools),
            "small talk": [Case(Exchange(ask, answer=say)) for ask, say in phrases.SMALL_TALK],
            "no tool for it": self._many(20, self._no_tool),
        }

    def _many(self, count: int, draw: Callable[[], Case]) -> list[Case]:
        return [draw() for _ in range(count)]

    def _report(self, place: tuple[str, str, str], unit: str = "celsius") -> Result:
        temperature = round(self._rng.uniform(-25, 45), 1)
        report = results.weather_report(place, temperature, unit, self._rng, sample=False)
        report["conditions"] = self._rng.choice(phrases.CONDITIONS)
        return Result(results.compact(report), results.weather_sentence(place[0], report))

    def _weather(self, tool: WeatherTool | None = None, unit: str | None = None) -> Part:
        place = self._rng.choice(HELD_OUT_PLACES)
        return weather_part(tool or WeatherTool(), place[0], self._report(place, unit or "celsius"), unit)

    def _math(self, expression: str, tool: MathTool | None = None) -> Part:
        return math_part(tool or MathTool(), expression, self._tools.math(expression))

    def _held_out_math(self, tool: MathTool | None = None) -> Part:
        while True:
            part = self._math(draw_expression(self._rng, held_out=True), tool)
            if "error" not in part.result.content and len(part.result.content) < LONGEST_RESULT:
                return part

    def _asked(self, part: Part, tools: Toolset = OURS, **options: Any) -> Case:
        if tools.weather and part.call.name == tools.weather.name:
            question = self._rng.choice(phrases.WEATHER_QUESTIONS[:-2]).format(city=part.name)
        else:
            question = self._rng.choice(phrases.MATH_QUESTIONS[:-1]).format(expression=part.name)
        return Case(exchange(question, [part]), tools, options=options)

    def _city(self, place: tuple[str, str, str]) -> Case:
        return self._asked(weather_part(WeatherTool(), place[0], self._report(place)))

    def _held_out_expression(self) -> Case:
        return self._asked(self._held_out_math())

    def _sample_city(self, city: str) -> Case:
        return self._asked(weather_part(WeatherTool(), city, self._tools.weather(city)))

    def _unknown_city(self, city: str) -> Case:
        name = f"{city}ville"
        return self._asked(weather_part(WeatherTool(), name, self._tools.weather(name)))

    def _spelled_expression(self) -> Case:
        """Draws whole and decimal numbers as people write them, for results with few and many digits."""
        rng = self._rng
        x, y = rng.randint(2, 9999), rng.randint(2, 999)
        expression = rng.choice(
            (
                f"{x} * {y}",
                f"{x} / {y}",
                f"{y} - {x}",
                f"sqrt({x})",
                f"({x} + {y}) / 7",
                f"{y}.5 * {x}",
                f"{y}^3",
            )
        )
        return self._asked(self._math(expression))

    def _joined(self, questions: tuple[str, ...], a: Part, b: Part) -> Case:
        return Case(exchange(self._rng.choice(questions).format(a=a.name, b=b.name), [a, b]))

    def _two_cities(self) -> Case:
        return self._joined(phrases.TWO_CITIES, self._weather(), self._weather())

    def _city_and_expression(self) -> Case:
        if self._rng.random() < 0.5:
            return self._joined(phrases.CITY_AND_EXPRESSION, self._weather(), self._held_out_math())
        return self._joined(phrases.EXPRESSION_AND_CITY, self._held_out_math(), self._weather())

    def _two_expressions(self) -> Case:
        return self._joined(phrases.TWO_EXPRESSIONS, self._held_out_math(), self._held_out_math())

    def _renamed(self) -> Toolset:
        weather, math = toolsets.renamed_weather(self._rng), toolsets.renamed_math(self._rng)
        return Toolset(weather, math, order_seed=self._rng.randrange(2))

    def _renamed_weather(self) -> Case:
        tools = self._renamed()
        return self._asked(self._weather(tools.weather), tools)

    def _renamed_math(self) -> Case:
        tools = self._renamed()
        return self._asked(self._held_out_math(tools.math), tools)

    def _held_out_wording(self) -> Case:
        if self._rng.random() < 0.5:
            part, question = self._weather(), self._rng.choice(phrases.HELD_OUT_WEATHER_QUESTIONS)
        else:
            part, question = self._held_out_math(), self._rng.choice(phrases.HELD_OUT_MATH_QUESTIONS)
        question = question.format(city=part.name, expression=part.name)
        return Case(exchange(question, [part]))

    def _with_unit(self) -> Case:
        unit = self._rng.choice(("celsius", "fahrenheit"))
        part = self._weather(unit=unit)
        ending = self._rng.choice(phrases.UNIT_ENDINGS).format(unit=unit)
        question = self._rng.choice(phrases.WEATHER_QUESTIONS[:-2]).format(city=part.name)
        return Case(exchange(question.rstrip("?.") + ending, [part]))

    def _follow_up(self) -> Case:
        before = self._asked(self._weather() if self._rng.random() < 0.5 else self._held_out_math())
        part = self._weather() if self._rng.random() < 0.5 else self._held_out_math()
        return Case(self._asked(part).expected, history=tuple(before.expected.answered()))

    def _forced(self, choice: Any) -> Case:
        part = self._weather() if self._rng.random() < 0.5 else self._held_out_math()
        return self._asked(part, tool_choice=choice)

    def _named(self) -> Case:
        case = self._forced(None)
        name = case.expected.calls[0].name
        return Case(case.expected, options={"tool_choice": {"type": "function", "function": {"name": name}}})

    def _answer_without_tools(self) -> Case:
        return Case(self._city_and_expression().expected, tools_in_answer=False)

    def _no_tool(self) -> Case:
        if self._rng.random() < 0.5:
            question, tools = self._asked(self._weather()).expected.question, Toolset(None, MathTool())
        else:
            question, tools = (
                self._asked(self._held_out_math()).expected.question,
                Toolset(WeatherTool(), None),
            )
        return Case(Exchange(question, answer=phrases.NO_TOOL), tools)
