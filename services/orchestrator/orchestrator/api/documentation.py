"""The OpenAPI description: what FastAPI does not know of keys, errors and the POST routes."""

from __future__ import annotations

from ..errors import (
    ApiError,
    DeadlineExceeded,
    EngineFailed,
    EngineUnavailable,
    InvalidRequest,
    Overloaded,
)
from ..protocol import JsonObject
from .auth import missing_key
from .body import too_large

OPEN_ROUTES = frozenset(
    {
        "/health", "/ready", "/metrics", "/v1/models", "/v1/models/{model}", "/docs", "/docs/{name}",
        "/openapi.json",
    }
)  # fmt: skip
"""The routes that need no key. All others do, so that a new route is not open by mistake."""

_ERROR_SCHEMA: JsonObject = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "integer", "null"]},
            },
        }
    },
}
_KEY_SCHEMES: JsonObject = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The API key, as OpenAI's clients send it"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key"},
}
_ERRORS: dict[str, tuple[str, ApiError]] = {
    "400": (
        "The request is invalid",
        InvalidRequest("messages must be a list with at least one message; it is missing", param="messages"),
    ),
    "401": ("The key is missing or unknown", missing_key()),
    "413": ("The body is too large", too_large(9_000_000, 8_388_608)),
    "429": (
        "Too many requests at once",
        Overloaded(
            "This server already serves its maximum of 2048 requests (MAX_IN_FLIGHT). Try again shortly."
        ),
    ),
    "502": ("The engine failed", EngineFailed("The engine vllm:8000 sent an unreadable answer")),
    "503": ("No engine answers", EngineUnavailable("vllm:8000 is not ready. Try again in a few seconds.")),
    "504": (
        "The time limit was reached",
        DeadlineExceeded(
            "The answer was not complete within 300 s (REQUEST_TIMEOUT_SECONDS). "
            "Request fewer tokens or raise the limit."
        ),
    ),
}
"""What the POST routes answer besides 200, each with an example."""

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
_CHAT_ANSWER: JsonObject = {
    "id": "chatcmpl-4f1c",
    "object": "chat.completion",
    "created": 1764115200,
    "model": "Qwen/Qwen2.5-7B-Instruct",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "It is 14.6 °C in San Francisco."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 312, "completion_tokens": 41, "total_tokens": 353},
}
_ANY_BODY: JsonObject = {"type": "object", "additionalProperties": True}


def complete(schema: JsonObject, *, needs_key: bool) -> JsonObject:
    """Adds the POST routes, the errors and, with `needs_key`, the keys to FastAPI's description."""
    schema["paths"] = {**post_routes(), **schema["paths"]}
    components = schema.setdefault("components", {})
    components.setdefault("schemas", {})["Error"] = _ERROR_SCHEMA
    components["responses"] = error_responses()
    if needs_key:
        components["securitySchemes"] = _KEY_SCHEMES
        for path, item in schema["paths"].items():
            for operation in item.values():
                operation["security"] = [] if path in OPEN_ROUTES else [{name: []} for name in _KEY_SCHEMES]
    return schema


def error_responses() -> JsonObject:
    """Returns the errors by status, as OpenAPI's reusable responses."""
    return {
        status: {
            "description": description,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/Error"},
                    "example": error.body(),
                }
            },
        }
        for status, (description, error) in _ERRORS.items()
    }


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
    answer: JsonObject = {"schema": {"type": "object"}}
    if tools:
        answer["example"] = _CHAT_ANSWER
    return {
        "post": {
            "tags": ["openai"],
            "summary": summary,
            "parameters": [execution] if tools else [],
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {
                "200": {
                    "description": "The answer, or a stream of it",
                    "content": {
                        "application/json": answer,
                        "text/event-stream": {"schema": {"type": "string"}},
                    },
                },
                **{status: {"$ref": f"#/components/responses/{status}"} for status in _ERRORS},
                "default": {
                    "description": "Another error, such as one of the engine",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                },
            },
        }
    }
