"""A local Open-Meteo: the shapes and behaviour of its two APIs, over HTTP on 127.0.0.1.

Shapes from https://open-meteo.com/en/docs/geocoding-api and https://open-meteo.com/en/docs.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

CURRENT = {"temperature_2m": 14.3, "relative_humidity_2m": 77, "weather_code": 2, "wind_speed_10m": 12.6}


def _result(
    number: int,
    name: str,
    at: tuple[float, float],
    code: str,
    country: str,
    region: str | None,
    population: int,
) -> dict[str, Any]:
    result = {
        "id": number,
        "name": name,
        "latitude": at[0],
        "longitude": at[1],
        "elevation": 28.0,
        "feature_code": "PPL",
        "country_code": code,
        "timezone": "GMT",
        "population": population,
        "country": country,
    }
    return result if region is None else {**result, "admin1_id": number + 1, "admin1": region}


# In the service's ranking order. A city state has no admin1.
PLACES = [
    _result(5391959, "San Francisco", (37.77493, -122.41942), "US", "United States", "California", 864816),
    _result(3837675, "San Francisco", (-31.42797, -62.08266), "AR", "Argentina", "Cordoba", 59062),
    _result(2988507, "Paris", (48.85341, 2.3488), "FR", "France", "Île-de-France", 2138551),
    _result(4717560, "Paris", (33.66094, -95.55551), "US", "United States", "Texas", 24782),
    _result(2643743, "London", (51.50853, -0.12574), "GB", "United Kingdom", "England", 8961989),
    _result(6058560, "London", (42.98339, -81.23304), "CA", "Canada", "Ontario", 346765),
    _result(4409896, "Springfield", (37.21533, -93.29824), "US", "United States", "Missouri", 166810),
    _result(4250542, "Springfield", (39.80172, -89.64371), "US", "United States", "Illinois", 116565),
    _result(1880252, "Singapore", (1.28967, 103.85007), "SG", "Singapore", None, 5638700),
    _result(3413829, "Reykjavík", (64.13548, -21.89541), "IS", "Iceland", "Capital Region", 118918),
    _result(
        4140963, "Washington", (38.89511, -77.03637), "US", "United States", "District of Columbia", 601723
    ),
]


class OpenMeteo:
    """The requests that the server received, and what to answer instead of the weather, if anything."""

    def __init__(self) -> None:
        self.url = ""
        self.places = PLACES
        self.temperature: Callable[[float], float] | None = None
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.instead: dict[str, tuple[int, bytes]] = {}
        self.silent = False
        self.stopped = threading.Event()

    def answer(self, path: str, parameters: dict[str, str]) -> tuple[int, bytes]:
        """Returns status and body."""
        self.requests.append((path, parameters))
        if path in self.instead:
            return self.instead[path]
        if path == "/v1/search":
            return _search(parameters, self.places)
        if path == "/v1/forecast":
            return _forecast(parameters, self.temperature)
        return _error(404, "Not Found")


@contextlib.contextmanager
def running_open_meteo() -> Iterator[OpenMeteo]:
    """Serves on a free port until the end of the block."""
    service = OpenMeteo()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            status, body = service.answer(parts.path, dict(parse_qsl(parts.query)))
            if service.silent:
                service.stopped.wait(30)
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        service.stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _search(parameters: dict[str, str], places: list[dict[str, Any]]) -> tuple[int, bytes]:
    name, count = parameters.get("name", ""), int(parameters.get("count", "10"))
    if not 1 <= count <= 100:
        return _error(400, "Parameter count must be between 1 and 100.")
    found = [
        place for place in places if len(name) > 1 and place["name"].casefold().startswith(name.casefold())
    ]
    results = {"results": found[:count]} if found else {}
    return 200, json.dumps({**results, "generationtime_ms": 0.9}).encode()


def _forecast(parameters: dict[str, str], temperature: Callable[[float], float] | None) -> tuple[int, bytes]:
    if not {"latitude", "longitude"} <= parameters.keys():
        return _error(400, "Parameter 'latitude' and 'longitude' must have the same number of elements")
    current = {name: CURRENT[name] for name in parameters.get("current", "").split(",")}
    if temperature:
        current["temperature_2m"] = temperature(float(parameters["latitude"]))
    fahrenheit = parameters.get("temperature_unit") == "fahrenheit"
    if fahrenheit:
        current["temperature_2m"] = round(current["temperature_2m"] * 9 / 5 + 32, 1)
    body = {
        "latitude": float(parameters["latitude"]),
        "longitude": float(parameters["longitude"]),
        "generationtime_ms": 0.05,
        "utc_offset_seconds": 0,
        "timezone": "GMT",
        "timezone_abbreviation": "GMT",
        "elevation": 28.0,
        "current_units": {
            "time": "iso8601",
            "interval": "seconds",
            "temperature_2m": "°F" if fahrenheit else "°C",
        },
        "current": {"time": "2026-11-20T10:15", "interval": 900, **current},
    }
    return 200, json.dumps(body).encode()


def _error(status: int, reason: str) -> tuple[int, bytes]:
    return status, json.dumps({"error": True, "reason": reason}).encode()
