"""The rules by which the stand-in picks tools, fills in their arguments and phrases their results."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standin_engine.answer import Result, compose
from standin_engine.arithmetic import expressions
from standin_engine.choose import choose_calls, force_calls
from standin_engine.extract import values_of
from standin_engine.places import places
from standin_engine.tokens import tokenize

from .test_standin_chat import MATH, WEATHER


def tool(
    name: str, description: str = "", required: list[str] | None = None, **properties: Any
) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


TEXT = {"type": "string"}
DATABASE = tool(
    "query_database",
    "Read rows of one table.\n\nTables:\ncustomers(id, name, city)\norders(id, status, total)",
    ["table"],
    table={"type": "string", "description": "The table to read."},
    columns={
        "anyOf": [{"type": "array", "items": TEXT}, {"type": "null"}],
        "description": "Columns and aggregates such as count(*).",
    },
    filters={"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/Filter"}}, {"type": "null"}]},
    order_by={"type": "array", "items": TEXT},
    limit={"type": "integer", "default": 20},
)
DATABASE["function"]["parameters"]["$defs"] = {
    "Filter": {
        "type": "object",
        "properties": {"column": TEXT, "op": {"enum": ["=", "<", ">", ">="]}, "value": {}},
        "required": ["column", "value"],
    }
}
FLIGHT = tool("book_flight", "Book a flight.", origin=TEXT, destination=TEXT, passengers={"type": "integer"})
SEARCH = tool("web_search", "Search the web.", query=TEXT)
MAIL = tool("sendEmail", "Send a message.", ["to"], to={"type": "string", "format": "email"}, subject=TEXT)
LAMP = tool(
    "set_lamp",
    "Switch a lamp.",
    ["power"],
    power={"type": "boolean"},
    colour={"type": "string", "enum": ["warm_white", "red"]},
    brightness={"type": "number"},
)
TIMER = tool("start_timer", "Start a kitchen timer.", minutes={"type": "integer"})
CONVERT = tool(
    "convert_currency", "Convert money.", ["to"], to={"const": "EUR"}, on={"type": "string", "format": "date"}
)
ALL = [WEATHER, MATH, DATABASE, FLIGHT, SEARCH, MAIL, LAMP, TIMER, CONVERT]


def calls(text: str, tools: list[dict[str, Any]] | None = None) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in choose_calls(text, tools or ALL)]


def weather(*cities: str, **more: str) -> list[tuple[str, Any]]:
    return [("get_current_weather", {"location": city} | more) for city in cities]


def math(*found: str) -> list[tuple[str, Any]]:
    return [("calculate_math", {"expression": expression}) for expression in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the weather in San Francisco?", weather("San Francisco")),
        ("What's the weather in Tokyo?", weather("Tokyo")),
        ("What is the weather in Paris and Tokyo?", weather("Paris", "Tokyo")),
        ("weather in Paris, Oslo, and Rome today", weather("Paris", "Oslo", "Rome")),
        ("What is the weather in Paris, France?", weather("Paris, France")),
        ("what's the weather in new york right now", weather("new york")),
        ("Is it raining in St. Louis?", weather("St. Louis")),
        ("weather in the city of Łódź in fahrenheit please", weather("Łódź", unit="fahrenheit")),
        ("How hot is it in Rio de Janeiro? I need it in celsius.", weather("Rio de Janeiro", unit="celsius")),
        ("Oslo weather?", weather("Oslo")),
        ("In Paris, what's the weather?", weather("Paris")),
        ("Calculate 123 * 456", math("123 * 456")),
        ("What is 2+2?", math("2+2")),
        ("what is 12 plus 7 times 3", math("12 + 7 * 3")),
        ("the square root of 16", math("sqrt(16)")),
        ("15% of 80", math("15 / 100 * 80")),
        ("What is 1,234 + 5 and 7 squared?", math("1234 + 5", "7 ** 2")),
        ("What is the weather in Oslo and what is 3*(4-1)?", weather("Oslo") + math("3*(4-1)")),
        (
            "How many customers are there?",
            [("query_database", {"table": "customers", "columns": ["count(*)"]})],
        ),
        ("Show me the orders", [("query_database", {"table": "orders"})]),
        (
            "List orders where total is at least 5 ordered by total limit 10",
            [
                (
                    "query_database",
                    {
                        "table": "orders",
                        "filters": [{"column": "total", "op": ">=", "value": 5}],
                        "order_by": ["total"],
                        "limit": 10,
                    },
                )
            ],
        ),
        (
            "Book a flight from Paris to New York for 2 passengers",
            [("book_flight", {"origin": "Paris", "destination": "New York", "passengers": 2})],
        ),
        ("Search the web for cats and dogs", [("web_search", {"query": "cats and dogs"})]),
        (
            "Send an email to bob@example.com with subject 'Hi there'",
            [("sendEmail", {"to": "bob@example.com", "subject": "Hi there"})],
        ),
        (
            "Set the lamp power on, warm white, brightness 40.5",
            [("set_lamp", {"power": True, "colour": "warm_white", "brightness": 40.5})],
        ),
        ("Switch the lamp to no power", [("set_lamp", {"power": False})]),
        ("Start a timer for 5 minutes", [("start_timer", {"minutes": 5})]),
        ("Convert my money on 2026-11-22", [("convert_currency", {"to": "EUR", "on": "2026-11-22"})]),
        ("Who wrote Faust?", []),
        ("What is the capital of France?", []),
        ("What is 10-3-2?", math("10-3-2")),
        ("What is 2024-(11-22)?", math("2024-(11-22)")),
        ("On 2024-11-22 or 22-11-2024 nothing happened, call 555-123-4567.", []),
        ("", []),
    ],
)
def test_request_leads_to_the_expected_calls(text: str, expected: list[tuple[str, Any]]) -> None:
    assert calls(text) == expected


words = st.text(st.characters(categories=["Lu", "Ll", "Lo"]), min_size=2, max_size=12).filter(
    lambda word: not word[0].islower() and word == word.strip()
)
cities = st.lists(words, min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from([" ", "-"]).map(lambda separator: separator.join(parts))
)
QUESTIONS = st.sampled_from(
    [
        "What is the weather in {}?",
        "What's the weather like in {} today?",
        "weather in {}",
        "Tell me the current weather for {}, please.",
        "How is the weather in {} right now?",
    ]
)


@given(city=cities, question=QUESTIONS)
def test_any_city_is_the_location(city: str, question: str) -> None:
    assert calls(question.format(city), [WEATHER, MATH]) == weather(city)


@given(several=st.lists(cities, min_size=2, max_size=4, unique=True))
def test_each_city_gets_its_own_call(several: list[str]) -> None:
    listed = f"{', '.join(several[:-1])} and {several[-1]}"
    assert calls(f"What is the weather in {listed}?", [WEATHER, MATH]) == weather(*several)


numbers = st.one_of(st.integers(0, 10**6).map(str), st.decimals(0, 999, places=2).map(str))
arithmetic = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(
            inner, st.sampled_from(["+", " + ", " - ", "*", " * ", "/", " / ", "**", "//", "%"]), inner
        ).map("".join),
        inner.map("({})".format),
        st.tuples(st.sampled_from(["sqrt", "abs", "log10"]), inner).map(lambda pair: f"{pair[0]}({pair[1]})"),
        inner.map("-{}".format),
    ),
    max_leaves=8,
).filter(lambda text: any(c in text.lstrip("-(") for c in "+*/%(") or " - " in text)


@given(expression=arithmetic)
def test_any_expression_is_the_argument(expression: str) -> None:
    assert calls(f"Calculate {expression}", [WEATHER, MATH]) == math(expression)
    assert calls(f"What is {expression}?", [WEATHER, MATH]) == math(expression)


@given(expression=arithmetic)
def test_expressions_are_recognised(expression: str) -> None:
    (found,) = expressions(f"Calculate {expression}")
    assert found == expression


@given(
    expression=arithmetic, result=st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
)
def test_any_result_is_in_the_answer(expression: str, result: float) -> None:
    for content in (json.dumps({"result": result}), json.dumps(result)):
        made = Result("calculate_math", {"expression": expression}, content)
        assert compose([made], "") == f"{expression} = {json.dumps(result)}."


@given(
    city=cities,
    degrees=st.floats(-60, 60).map(lambda d: round(d, 1)),
    sky=st.sampled_from(["Sunny", "light rain"]),
)
def test_any_weather_is_in_the_answer(city: str, degrees: float, sky: str) -> None:
    facts = {"location": city, "temperature": degrees, "unit": "fahrenheit", "conditions": sky}
    answer = compose([Result("get_current_weather", {"location": city}, json.dumps(facts))], "")
    assert answer == f"The weather in {city} is {degrees} °F ({sky.lower()})."


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(content=st.one_of(json_values.map(json.dumps), st.text()), question=st.text(max_size=40))
def test_any_result_gets_an_answer(content: str, question: str) -> None:
    assert compose([Result("look_up", {}, content)], question).strip()


@given(
    rows=st.lists(st.lists(json_values, max_size=3), max_size=15),
    columns=st.lists(st.text(max_size=5), max_size=3),
)
def test_any_table_gets_an_answer(rows: list[Any], columns: list[str]) -> None:
    content = json.dumps({"columns": columns, "rows": rows})
    assert compose([Result("query", {}, content)], "How many are there?").strip()


schemas = st.recursive(
    st.sampled_from(
        [
            {"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {"type": ["number", "null"]}, {},
            {"enum": ["a", 1, None]}, {"const": 3}, {"$ref": "#/$defs/Loop"}, {"$ref": "#/nowhere"},
            {"type": "null"}, {"anyOf": []}, {"allOf": [{"type": "string"}]}, {"type": "array"},
            {"type": "unheard-of"},
        ]
    ),
    lambda inner: st.one_of(
        inner.map(lambda item: {"type": "array", "items": item}),
        st.dictionaries(st.sampled_from(["city", "expression", "filters", "name"]), inner, max_size=3).map(
            lambda p: {"type": "object", "properties": p, "required": list(p)}
        ),
    ),
    max_leaves=6,
)  # fmt: skip


@given(schema=schemas, text=st.one_of(st.text(), st.just("lamp where price > 5 in Oslo, 2*3, 'x'")))
def test_forced_call_gets_arguments_for_any_schema(schema: dict[str, Any], text: str) -> None:
    lamp = tool("lamp", value=schema)
    lamp["function"]["parameters"]["$defs"] = {
        "Loop": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Loop"}}, "required": ["next"]}
    }
    choose_calls(text, [lamp])
    made = force_calls(text, [lamp], "lamp")
    assert made
    for call in made:
        assert "value" in json.loads(call.arguments)


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object", "properties": {}}])
def test_a_tool_without_parameters_is_called_with_an_empty_object(parameters: dict[str, Any] | None) -> None:
    clock: dict[str, Any] = {"name": "read_clock", "description": "The time of day."}
    if parameters is not None:
        clock["parameters"] = parameters
    assert calls("Read the clock", [{"type": "function", "function": clock}]) == [("read_clock", {})]


def test_tool_names_make_no_difference() -> None:
    """The same tools under other names, with other naming conventions, are called in the same way."""
    renamed = tool("forecastFor", "Reports how the weather is.", town=TEXT)
    assert calls("What is the weather in Oslo?", [renamed]) == [("forecastFor", {"town": "Oslo"})]
    solver = tool("solve", "Does sums.", formula=TEXT)
    assert calls("What is 6*7?", [solver]) == [("solve", {"formula": "6*7"})]


@pytest.mark.parametrize(
    ("name", "arguments", "content", "question", "answer"),
    [
        ("get_weather", {"city": "Oslo"}, "22 celsius, sunny", "", "The weather in Oslo: 22 celsius, sunny."),
        ("get_weather", {"city": "Oslo"}, "It is sunny there.", "", "It is sunny there."),
        (
            "get_weather",
            {},
            '{"temperature": 3, "temperature_unit": "celsius", "humidity_percent": 80, "wind_kmh": 12}',
            "",
            "The weather is 3 °C, with humidity 80% and wind 12 km/h.",
        ),
        ("calculate", {"expression": "2+2"}, "4", "", "2+2 = 4."),
        ("lookup", {}, "4", "", "The result is 4."),
        ("lookup", {}, "", "", "The tool lookup returned nothing."),
        ("lookup", {}, "Error: no such thing", "", "The tool lookup could not answer: no such thing."),
        ("lookup", {}, '{"error": {"message": "gone"}}', "", "The tool lookup could not answer: gone."),
        ("lookup", {}, "[1, 2, 3]", "", "The result is 1, 2 and 3."),
        ("find_user", {}, '{"name": "Bob", "admin": true}', "", "The user: name Bob and admin yes."),
        ("query", {}, '{"columns": ["count"], "rows": [[42]]}', "How many users?", "There are 42 users."),
        ("query", {}, '{"columns": ["total"], "rows": [[9.5]]}', "", "The total is 9.5."),
        ("query", {}, '{"columns": ["id"], "rows": []}', "How many users?", "There are no users."),
        ("query", {}, '{"columns": ["a", "b"], "rows": [[1, 2]]}', "", "There is 1 row: a 1, b 2."),
        ("query", {}, '[{"a": 1}, {"b": 2}]', "", "There are 2 rows: a 1, b none; a none, b 2."),
    ],
)
def test_answer_follows_the_shape_of_the_result(
    name: str, arguments: dict[str, Any], content: str, question: str, answer: str
) -> None:
    assert compose([Result(name, arguments, content)], question) == answer


def test_long_tables_are_cut_and_the_answer_says_how_many_rows_there_are() -> None:
    content = json.dumps({"columns": ["id"], "rows": [[i] for i in range(25)]})
    answer = compose([Result("query", {}, content)], "How many users?")
    assert answer.startswith("There are 25 users: id 0; ")
    assert answer.endswith("; id 9; and 15 more.")


def test_directions_separate_origin_from_destination() -> None:
    text = "a train from Bath to Rio de Janeiro"
    assert (places(text, "origin"), places(text, "to_city")) == (["Bath"], ["Rio de Janeiro"])


@given(text=st.text(st.one_of(st.characters(), st.sampled_from(string.printable)), max_size=200))
def test_tokens_concatenate_to_the_text(text: str) -> None:
    assert "".join(tokenize(text)) == text


@given(st.from_regex(r"[A-Z]{2}[0-9]{9}[A-Z]{2}", fullmatch=True))
def test_code_in_the_text_fills_a_number_or_an_id(code: str) -> None:
    for name in ("tracking_number", "order_id", "reference"):
        schema = {"type": "string", "description": "Two letters, nine digits, two letters"}
        assert values_of(name, schema, f"Where is parcel {code}?", frozenset()) == [code]
