"""`get_current_weather`: current weather from Open-Meteo, or climate averages without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ..errors import ToolError
from .climate import CITIES, find_city
from .places import Located, choose, split_location

if TYPE_CHECKING:
    import httpx

Unit = Literal["celsius", "fahrenheit"]
Source = Literal["open-meteo", "sample"]

_SAMPLE_NOTE = "sample data (climate average), not a forecast"
_CURRENT = "temperature_2m,relative_humidity_2m,weather_code,wind_speed_10m"
_ONE_REQUEST_SECONDS = 4.0
_MOST_RESULTS = 100  # the geocoder's maximum: a small Springfield is far down in its results


class Weather:
    """The weather tool and its source of data.

    Args:
        source: "open-meteo" queries https://open-meteo.com (no key needed); "sample" answers from a table of
            annual means and says so.
        geocoding_url: base URL of the geocoding API.
        forecast_url: base URL of the forecast API.
    """

    def __init__(
        self,
        source: Source = "open-meteo",
        *,
        geocoding_url: str = "https://geocoding-api.open-meteo.com",
        forecast_url: str = "https://api.open-meteo.com",
    ) -> None:
        self._source = source
        self._geocoding_url = geocoding_url.rstrip("/")
        self._forecast_url = forecast_url.rstrip("/")
        self._client: httpx.AsyncClient | None = None

    async def get_current_weather(self, location: str, unit: Unit = "celsius") -> dict[str, Any]:
        """Get the current weather in a place.

        Args:
            location: City, with region or country if ambiguous, e.g. San Francisco, CA
            unit: Unit of the temperature.
        """
        name, qualifiers = split_location(location)
        if not name:
            raise ToolError("location is empty: give a city, San Francisco, CA for example")
        if self._source == "sample":
            return _average(name, qualifiers, location, unit)
        place = await self._find(name, qualifiers, location)
        current = await self._current(place, unit)
        return {
            "location": place.label(),
            "temperature": current["temperature_2m"],
            "unit": unit,
            "conditions": _CONDITIONS.get(current["weather_code"], "unknown"),
            "humidity_percent": current["relative_humidity_2m"],
            "wind_kmh": current["wind_speed_10m"],
            "source": "open-meteo.com",
        }

    async def aclose(self) -> None:
        """Close the connections to the weather service."""
        if self._client is not None:
            await self._client.aclose()

    async def _find(self, name: str, qualifiers: list[str], location: str) -> Located:
        count = _MOST_RESULTS if qualifiers else 1
        answer = await self._get(
            f"{self._geocoding_url}/v1/search", name=name, count=count, language="en", format="json"
        )
        results = answer.get("results", [])  # missing if nothing was found
        if not isinstance(results, list):
            raise ToolError(_NOT_UNDERSTOOD)
        found = [_place(result) for result in results]
        place = choose(found, qualifiers)
        if place is not None:
            return place
        if found:
            known = "; ".join(dict.fromkeys(place.label() for place in found[:5]))
            raise ToolError(f"no place fits {location!r}. Places of that name: {known}")
        raise ToolError(
            f"no place named {name!r} is known: write 'City, Region' or 'City, Country' in English"
        )

    async def _current(self, place: Located, unit: Unit) -> dict[str, Any]:
        answer = await self._get(
            f"{self._forecast_url}/v1/forecast",
            latitude=place.latitude,
            longitude=place.longitude,
            current=_CURRENT,
            temperature_unit=unit,
            wind_speed_unit="kmh",
        )
        current = answer.get("current")
        if not isinstance(current, dict) or not set(_CURRENT.split(",")) <= current.keys():
            raise ToolError(_NOT_UNDERSTOOD)
        return current

    async def _get(self, url: str, **parameters: str | float) -> dict[str, Any]:
        import httpx  # saves 11 MB in a deployment without this source

        if self._client is None:
            self._client = httpx.AsyncClient(timeout=_ONE_REQUEST_SECONDS)
        try:
            response = await self._client.get(url, params=parameters)
        except httpx.TimeoutException as error:
            raise ToolError(
                f"the weather service did not answer within {_ONE_REQUEST_SECONDS:g} s"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ToolError("the weather service cannot be reached") from error
        if response.status_code == 429:
            raise ToolError("the weather service's limit of requests is reached: try again in a minute")
        if not response.is_success:
            raise ToolError(f"the weather service failed with status {response.status_code}")
        return _object(response)


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError as error:
        raise ToolError(_NOT_UNDERSTOOD) from error
    if not isinstance(answer, dict):
        raise ToolError(_NOT_UNDERSTOOD)
    return answer


def _place(result: Any) -> Located:
    """Reads one result of https://open-meteo.com/en/docs/geocoding-api, which omits empty fields."""
    try:
        return Located(
            name=result["name"],
            region=result.get("admin1", ""),
            country=result.get("country", ""),
            country_code=result.get("country_code", ""),
            latitude=float(result["latitude"]),
            longitude=float(result["longitude"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ToolError(_NOT_UNDERSTOOD) from error


def _average(name: str, qualifiers: list[str], location: str, unit: Unit) -> dict[str, Any]:
    city = find_city(name, qualifiers)
    if city is None:
        known = ", ".join(city.name for city in CITIES[::6])
        raise ToolError(
            f"{location!r} is not in the sample data, which has {known} and other large cities. "
            "Real weather everywhere: start the server with WEATHER_SOURCE=open-meteo"
        )
    degrees = city.mean_celsius if unit == "celsius" else city.mean_celsius * 9 / 5 + 32
    return {
        "location": city.label(),
        "temperature": round(degrees, 1),
        "unit": unit,
        "conditions": "average over the year",
        "source": _SAMPLE_NOTE,
    }


_NOT_UNDERSTOOD = "the weather service answered in a form that is not understood"

# The codes of WMO table 4677 that Open-Meteo uses: https://open-meteo.com/en/docs, "WMO Weather
# interpretation codes (WW)"
_CONDITIONS = {
    0: "clear sky",
    1: "mainly clear",
    2: "partly cloudy",
    3: "overcast",
    45: "fog",
    48: "depositing rime fog",
    51: "light drizzle",
    53: "moderate drizzle",
    55: "dense drizzle",
    56: "light freezing drizzle",
    57: "dense freezing drizzle",
    61: "slight rain",
    63: "moderate rain",
    65: "heavy rain",
    66: "light freezing rain",
    67: "heavy freezing rain",
    71: "slight snowfall",
    73: "moderate snowfall",
    75: "heavy snowfall",
    77: "snow grains",
    80: "slight rain showers",
    81: "moderate rain showers",
    82: "violent rain showers",
    85: "slight snow showers",
    86: "heavy snow showers",
    95: "thunderstorm",
    96: "thunderstorm with slight hail",
    99: "thunderstorm with heavy hail",
}
