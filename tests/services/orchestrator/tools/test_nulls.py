from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import jsonschema_rs
import pytest

from orchestrator.tools.database import Database
from orchestrator.tools.nulls import strict_schema
from orchestrator.tools.schema import InvalidArguments, define_tool
from orchestrator.tools.toolbox import Toolbox
from orchestrator.tools.weather import Weather


@dataclass
class Stay:
    nights: int
    breakfast: bool = True
    note: str | None = "none"


def book(
    guest: str,
    room: Literal["single", "double"] = "single",
    stays: list[Stay] = [],  # noqa: B006
    extra: Stay | None = None,
    note: str | None = "quiet",
) -> str:
    """Book a room."""
    return f"{guest} {room} {stays} {extra} {note}"


TOOL = define_tool(book)


def test_null_means_the_default_at_any_depth() -> None:
    values = TOOL.validate(
        {
            "guest": "Ana",
            "room": None,
            "stays": [{"nights": 1, "breakfast": None}, {"nights": 2, "breakfast": False, "note": None}],
            "extra": {"nights": 3, "breakfast": None},
        }
    )
    assert values["room"] == "single"
    assert values["stays"] == [Stay(1), Stay(2, breakfast=False, note=None)]
    assert values["extra"] == Stay(3)


def test_null_is_kept_if_the_type_allows_it() -> None:
    assert TOOL.validate({"guest": "Ana", "note": None, "extra": None})["note"] is None


@pytest.mark.parametrize("arguments", [{"guest": None}, {"guest": "Ana", "stays": [{"nights": None}]}])
def test_null_for_a_required_parameter_is_rejected(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArguments, match="not None"):
        TOOL.validate(arguments)


def test_strict_schema_requires_all_parameters_and_allows_null_for_optional_ones() -> None:
    schema = strict_schema(TOOL.parameters)
    jsonschema_rs.meta.validate(schema)
    assert schema["required"] == ["guest", "room", "stays", "extra", "note"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["guest"] == {"type": "string"}
    assert schema["properties"]["room"] == {
        "anyOf": [{"type": "string", "enum": ["single", "double"]}, {"type": "null"}]
    }
    assert schema["$defs"]["Stay"]["required"] == ["nights", "breakfast", "note"]
    assert "default" not in json.dumps(schema)
    strictly = {"guest": "Ana", "room": None, "stays": None, "extra": None, "note": None}
    jsonschema_rs.validate(schema, strictly)
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, {"guest": "Ana"})
    assert TOOL.validate(strictly)["stays"] == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("get_current_weather", {"location": "Paris", "unit": None}),
        ("query_database", {"table": "customers", "columns": None, "limit": None, "order_by": None}),
        ("query_database", {"table": "products", "filters": [{"column": "stock", "op": None, "value": 0}]}),
    ],
)
async def test_built_in_tools_accept_null_for_a_default(name: str, arguments: dict[str, Any]) -> None:
    weather = Weather(source="sample", forecast_url="http://x.invalid", geocoding_url="http://x.invalid")
    toolbox = Toolbox([weather.get_current_weather, Database().query_database])
    result = await toolbox.call(name, json.dumps(arguments), request_id="r1")
    assert result.outcome == "ok", result.content
    await toolbox.aclose()
    await weather.aclose()


def test_client_that_requests_strict_mode_gets_a_strict_schema() -> None:
    toolbox = Toolbox([book])
    asked = {"type": "function", "function": {"name": "book", "strict": True}}
    assert toolbox.complete(asked)["function"]["parameters"] == strict_schema(TOOL.parameters)
    asked["function"]["strict"] = False  # type: ignore[index]
    assert toolbox.complete(asked)["function"]["parameters"] == TOOL.parameters
