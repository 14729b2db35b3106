from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.errors import ToolError
from orchestrator.tools.toolbox import Toolbox
from orchestrator.tools.weather import Weather
from tests.support.openmeteo import OpenMeteo


@pytest.fixture
async def weather(open_meteo: OpenMeteo) -> AsyncIterator[Weather]:
    weather = Weather(geocoding_url=open_meteo.url, forecast_url=f"{open_meteo.url}/")
    yield weather
    await weather.aclose()


@pytest.fixture
def sample() -> Weather:
    return Weather("sample")


async def test_weather_of_a_place_is_returned(weather: Weather, open_meteo: OpenMeteo) -> None:
    assert await weather.get_current_weather("San Francisco, CA") == {
        "location": "San Francisco, California, United States",
        "temperature": 14.3,
        "unit": "celsius",
        "conditions": "partly cloudy",
        "humidity_percent": 77,
        "wind_kmh": 12.6,
        "source": "open-meteo.com",
    }
    (search, search_parameters), (forecast, parameters) = open_meteo.requests
    assert (search, search_parameters["name"]) == ("/v1/search", "San Francisco")
    assert forecast == "/v1/forecast"
    assert (parameters["latitude"], parameters["longitude"]) == ("37.77493", "-122.41942")
    assert (parameters["temperature_unit"], parameters["wind_speed_unit"]) == ("celsius", "kmh")


async def test_service_converts_to_fahrenheit(weather: Weather) -> None:
    answer = await weather.get_current_weather("San Francisco", "fahrenheit")
    assert (answer["temperature"], answer["unit"], answer["wind_kmh"]) == (57.7, "fahrenheit", 12.6)


@pytest.mark.parametrize(
    ("location", "label"),
    [
        ("Paris", "Paris, Île-de-France, France"),
        ("paris, tx", "Paris, Texas, United States"),
        ("Paris, Texas, USA", "Paris, Texas, United States"),
        ("San Francisco, Argentina", "San Francisco, Cordoba, Argentina"),
        ("Springfield, IL", "Springfield, Illinois, United States"),
        ("London, Ontario", "London, Ontario, Canada"),
        ("London, UK", "London, England, United Kingdom"),
        ("Washington, D.C.", "Washington, District of Columbia, United States"),
        ("Singapore", "Singapore"),
    ],
)
async def test_places_with_the_same_name_are_distinguished(
    weather: Weather, location: str, label: str
) -> None:
    assert (await weather.get_current_weather(location))["location"] == label


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("Atlantis", "no place named 'Atlantis' is known: write 'City, Region' or 'City, Country'"),
        (
            "Springfield, Ontario",
            "no place fits 'Springfield, Ontario'. Places of that name: "
            "Springfield, Missouri, United States; Springfield, Illinois, United States",
        ),
        ("", "location is empty"),
        (" , CA", "location is empty"),
    ],
)
async def test_error_explains_an_unknown_place(weather: Weather, location: str, complaint: str) -> None:
    with pytest.raises(ToolError) as error:
        await weather.get_current_weather(location)
    assert str(error.value).startswith(complaint)


@pytest.mark.parametrize("path", ["/v1/search", "/v1/forecast"])
@pytest.mark.parametrize(
    ("status", "body", "complaint"),
    [
        (
            429,
            b'{"error":true,"reason":"Minutely API request limit exceeded. Please try again in one minute."}',
            "limit of requests is reached: try again in a minute",
        ),
        (400, b'{"error":true,"reason":"Data corrupted"}', "failed with status 400"),
        (502, b"<html>Bad Gateway</html>", "failed with status 502"),
        (301, b"", "failed with status 301"),
        (200, b"<html>captive portal</html>", "answered in a form that is not understood"),
        (200, b"[]", "answered in a form that is not understood"),
        (200, b'{"results": 3, "current": 3}', "answered in a form that is not understood"),
        (200, b'{"results": [3], "current": {}}', "answered in a form that is not understood"),
        (
            200,
            b'{"results": [{"name": "X"}], "current": {"weather_code": 3}}',
            "answered in a form that is not understood",
        ),
        (
            200,
            b'{"results": [{"name": "X", "latitude": "north", "longitude": 2}], "current": null}',
            "answered in a form that is not understood",
        ),
    ],
)
async def test_failures_of_the_service_are_reported_to_the_model(
    weather: Weather, open_meteo: OpenMeteo, path: str, status: int, body: bytes, complaint: str
) -> None:
    open_meteo.instead[path] = (status, body)
    with pytest.raises(ToolError, match=complaint):
        await weather.get_current_weather("Paris")


async def test_request_to_a_silent_service_times_out(
    open_meteo: OpenMeteo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.tools.weather._ONE_REQUEST_SECONDS", 0.05)
    open_meteo.silent = True
    weather = Weather(geocoding_url=open_meteo.url, forecast_url=open_meteo.url)
    with pytest.raises(ToolError, match=r"did not answer within 0\.05 s"):
        await weather.get_current_weather("Paris")
    await weather.aclose()


async def test_unreachable_service_is_reported() -> None:
    for url in ("http://127.0.0.1:9", "nonsense", "http://[::1"):
        weather = Weather(geocoding_url=url, forecast_url=url)
        with pytest.raises(ToolError, match="cannot be reached") as error:
            await weather.get_current_weather("Paris")
        assert url not in str(error.value)
        await weather.aclose()


async def test_unknown_weather_code_is_reported_as_unknown(weather: Weather, open_meteo: OpenMeteo) -> None:
    current = {"temperature_2m": 1, "relative_humidity_2m": 2, "weather_code": 42, "wind_speed_10m": 3}
    open_meteo.instead["/v1/forecast"] = (200, json.dumps({"current": current}).encode())
    assert (await weather.get_current_weather("Paris"))["conditions"] == "unknown"


async def test_sample_data_is_marked_as_such(sample: Weather) -> None:
    assert await sample.get_current_weather("san francisco, ca", "fahrenheit") == {
        "location": "San Francisco, California, United States",
        "temperature": 58.3,
        "unit": "fahrenheit",
        "conditions": "average over the year",
        "source": "sample data (climate average), not a forecast",
    }
    assert (await sample.get_current_weather("Zurich"))["temperature"] == 9.3
    await sample.aclose()


async def test_error_for_a_place_outside_the_sample_lists_some_cities(sample: Weather) -> None:
    for location in ("Ouagadougou", "Paris, Texas"):
        with pytest.raises(ToolError, match="WEATHER_SOURCE=open-meteo") as error:
            await sample.get_current_weather(location)
        assert f"'{location}' is not in the sample data, which has Amsterdam, Beijing, " in str(error.value)


async def test_tool_has_a_schema_and_can_be_called(weather: Weather) -> None:
    toolbox = Toolbox([weather.get_current_weather])
    function: dict[str, Any] = toolbox.specs()[0]["function"]
    assert function == {
        "name": "get_current_weather",
        "description": "Get the current weather in a place.",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {
                    "type": "string",
                    "description": "City, with region or country if ambiguous, e.g. San Francisco, CA",
                },
                "unit": {
                    "type": "string",
                    "enum": ["celsius", "fahrenheit"],
                    "default": "celsius",
                    "description": "Unit of the temperature.",
                },
            },
            "required": ["location"],
            "additionalProperties": False,
        },
    }
    result = await toolbox.call("get_current_weather", '{"location": "Paris, TX"}', request_id="r1")
    assert result.outcome == "ok"
    assert json.loads(result.content)["location"] == "Paris, Texas, United States"


def test_sample_data_does_not_need_the_http_client() -> None:
    code = (
        "import asyncio, sys\n"
        "from orchestrator.tools.weather import Weather\n"
        "asyncio.run(Weather('sample').get_current_weather('Oslo'))\n"
        "assert 'httpx' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": "services/orchestrator"})
