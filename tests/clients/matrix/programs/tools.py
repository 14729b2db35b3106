"""The tools that the programs offer. The server has calculate_math; weather_forecast is the client's own."""

import json


def calculate_math(expression: str) -> str:
    """Calculate an arithmetic expression.

    Args:
        expression: The expression, such as 12 * 7
    """
    raise AssertionError(f"the server runs this, not the client: {expression}")


def weather_forecast(location: str) -> str:
    """Get the weather.

    Args:
        location: The city
    """
    return json.dumps(
        {"location": location, "temperature": 21.5, "unit": "celsius", "conditions": "sunny"},
        separators=(",", ":"),
    )


SERVER_TOOL = {"type": "function", "function": {"name": "calculate_math"}}
CLIENT_TOOL = {
    "type": "function",
    "function": {
        "name": "weather_forecast",
        "description": "Get the weather",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string", "description": "The city"}},
            "required": ["location"],
        },
    },
}
ANSWER = {
    "type": "object",
    "properties": {"answer": {"type": "string", "maxLength": 40}},
    "required": ["answer"],
    "additionalProperties": False,
}
