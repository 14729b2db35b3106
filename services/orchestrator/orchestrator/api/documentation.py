"""The documentation of the POST routes in /docs, since FastAPI does not serve them."""

from __future__ import annotations

from ..protocol import JsonObject

_ERROR = {
    "description": "An error in OpenAI's format",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "error": {
                        "type": "object",
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                            "code": {"type": ["string", "integer", "null"]},
                        },
                    }
                },
            }
        }
    },
}
_CHAT_BODY: JsonObject = {
    "type": "object",
    "required": ["messages"],
    "additionalProperties": True,
    "properties": {
        "model": {"type": "string"},
        "messages": {"type": "array", "items": {"type": "object"}, "minItems": 1},
        "stream": {"type": "boolean"},
        "tools": {
            "type": "array",
            "items": {"type": "object"},
            "description": "The server runs the tools that /v1/tools lists. For these, the name is enough.",
        },
        "tool_choice": {},
        "tandem": {
            "type": "object",
            "properties": {"events": {"type": "boolean"}},
            "description": "`events: true` reports each tool call, its result and its duration.",
        },
    },
    "example": {
        "messages": [{"role": "user", "content": "What is the weather in San Francisco?"}],
        "tools": [{"type": "function", "function": {"name": "get_current_weather"}}],
    },
}
_ANY_BODY: JsonObject = {"type": "object", "additionalProperties": True}


def post_routes() -> JsonObject:
    """Returns the OpenAPI path items."""
    return {
        "/v1/chat/completions": _post(
            "Chat. The server runs its tools and answers when they are done.", _CHAT_BODY, tools=True
        ),
        "/v1/completions": _post("Relayed to the engine", _ANY_BODY),
        "/v1/embeddings": _post("Relayed to the engine", _ANY_BODY),
        "/v1/responses": _post("Relayed to the engine", _ANY_BODY),
    }


def _post(summary: str, body: JsonObject, *, tools: bool = False) -> JsonObject:
    execution = {
        "name": "X-Tool-Execution",
        "in": "header",
        "schema": {"type": "string", "enum": ["client", "server"]},
        "description": "`client` leaves all tools to the client.",
    }
    return {
        "post": {
            "tags": ["openai"],
            "summary": summary,
            "parameters": [execution] if tools else [],
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {"200": {"description": "The answer, or a stream of it"}, "default": _ERROR},
        }
    }
