"""The tools that a request may bring: ours unchanged, renamed, namespaced, or mixed with others."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.e2e.engine.train.names import listed, made_up_word

_WEATHER_NAMES = listed(
    "get_current_weather|get_weather|weather|current_weather|weather_lookup|fetch_weather|lookup_weather|"
    "weather_now|get_forecast|forecast|weather_forecast|get_temperature|temperature|getWeather|getCurrentWeather"
)
_PLACE_PARAMETERS = ("location", "location", "city", "place", "city_name", "where")
_UNIT_PARAMETERS = ("unit", "unit", "units", None)
_MATH_NAMES = listed(
    "calculate_math|calculate|math|calculator|eval_math|math_eval|do_math|calc|compute|evaluate|"
    "evaluate_expression|run_calculation|solve_math|calculateMath|evalExpression"
)
_EXPRESSION_PARAMETERS = ("expression", "expression", "expr", "input", "formula", "math_expression")
_NAMESPACES = ("tools", "functions", "function", "mcp", "default_api", "server", "api", "my", "tandem")
_SEPARATORS = (".", "__", "_", "-", "/", ":")
_STRANGERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("query_database", ("table", "columns", "filters", "order_by", "limit")),
    ("get_time", ("timezone",)),
    ("search_web", ("query",)),
    ("send_email", ("to", "subject", "body")),
    ("read_file", ("path",)),
    ("list_users", ()),
    ("translate_text", ("text", "language")),
    ("get_stock_price", ("symbol",)),
    ("create_note", ("title",)),
    ("echo", ("message",)),
    ("lookup_user", ("id",)),
)


@dataclass(frozen=True)
class WeatherTool:
    name: str = "get_current_weather"
    place: str = "location"
    unit: str | None = "unit"

    def spec(self) -> dict[str, Any]:
        return tool_spec(self.name, (self.place, self.unit) if self.unit else (self.place,))


@dataclass(frozen=True)
class MathTool:
    name: str = "calculate_math"
    expression: str = "expression"

    def spec(self) -> dict[str, Any]:
        return tool_spec(self.name, (self.expression,))


@dataclass(frozen=True)
class Toolset:
    """The `tools` of a request; a kind of tool that is None is absent."""

    weather: WeatherTool | None
    math: MathTool | None
    strangers: tuple[dict[str, Any], ...] = ()
    order_seed: int = 0
    specs: list[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        specs = [tool.spec() for tool in (self.weather, self.math) if tool] + list(self.strangers)
        Random(self.order_seed).shuffle(specs)
        object.__setattr__(self, "specs", specs)


def tool_spec(name: str, parameters: tuple[str, ...]) -> dict[str, Any]:
    """Builds a tool in the request format; the chat template shows only its name and parameter names."""
    properties = {parameter: {"type": "string"} for parameter in parameters}
    schema = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def stranger(name: str) -> dict[str, Any]:
    """Draws a tool that the model knows but never calls."""
    return tool_spec(name, dict(_STRANGERS)[name])


def _decorate(name: str, rng: Random) -> str:
    word = rng.choice(_NAMESPACES) if rng.random() < 0.5 else made_up_word(rng)
    separator = rng.choice(_SEPARATORS)
    if rng.random() < 0.15:
        return f"{name}{separator}{word}"
    if rng.random() < 0.2:
        return f"mcp__{word}__{name}"
    return f"{word}{separator}{name}"


def renamed_weather(rng: Random) -> WeatherTool:
    name = rng.choice(_WEATHER_NAMES)
    name = _decorate(name, rng) if rng.random() < 0.6 else name
    return WeatherTool(name, rng.choice(_PLACE_PARAMETERS), rng.choice(_UNIT_PARAMETERS))


def renamed_math(rng: Random) -> MathTool:
    name = rng.choice(_MATH_NAMES)
    name = _decorate(name, rng) if rng.random() < 0.6 else name
    return MathTool(name, rng.choice(_EXPRESSION_PARAMETERS))


def draw_toolset(rng: Random) -> Toolset:
    """Draws the tools of one training conversation: usually both of the server, sometimes one or none."""
    renamed = rng.random() < 0.6
    weather = renamed_weather(rng) if renamed and rng.random() < 0.9 else WeatherTool()
    math = renamed_math(rng) if renamed and rng.random() < 0.9 else MathTool()
    kind = rng.choices(("both", "weather", "math", "none"), (70, 12, 12, 6))[0]
    strangers: list[dict[str, Any]] = []
    if kind != "none":
        strangers += [stranger("query_database")] if rng.random() < 0.3 else []
        others = rng.sample(_STRANGERS[1:], rng.randint(1, 3)) if rng.random() < 0.2 else []
        strangers += [tool_spec(name, parameters) for name, parameters in others]
    return Toolset(
        weather=weather if kind in ("both", "weather") else None,
        math=math if kind in ("both", "math") else None,
        strangers=tuple(strangers),
        order_seed=rng.randrange(1 << 30),
    )
