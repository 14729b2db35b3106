"""Requests and helper functions that the tests of the loop share."""

from __future__ import annotations

from typing import Any

from tests.support.live import Json
from tests.support.scripted_engine import ScriptedEngine

WEATHER: Any = {"type": "function", "function": {"name": "get_current_weather"}}
MATH: Any = {"type": "function", "function": {"name": "calculate_math"}}
MINE: Any = {
    "type": "function",
    "function": {
        "name": "my_tool",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
    },
}
SUM = '{"expression": "1+1"}'
TAGGED = f'<tool_call>{{"name": "calculate_math", "arguments": {SUM}}}</tool_call>'


def tool_messages(engine: ScriptedEngine, request: int) -> list[Json]:
    return [m for m in engine.requests[request].json["messages"] if m["role"] == "tool"]
