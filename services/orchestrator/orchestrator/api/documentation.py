"""The OpenAPI description: what FastAPI does not know of keys, errors and the POST routes."""

from __future__ import annotations

from collections.abc import Container, Sequence

from ..errors import (
    ApiError,
    DeadlineExceeded,
    EngineFailed,
    EngineUnavailable,
    InvalidRequest,
    NotPermitted,
    RateLimited,
)
from ..protocol import JsonObject
from .auth import OPEN_ROUTES, missing_key
from .body import too_large
from .body_schemas import (
    AUDIO_FORM,
    CHAT_ANSWER,
    CLASSIFY_BODY,
    COMPLETION_BODY,
    EMBEDDINGS_BODY,
    EVENT,
    MCP_ANSWER,
    MCP_BODY,
    MCP_ERROR,
    MESSAGES_BODY,
    MODEL,
    POOLING_BODY,
    RERANK_BODY,
    RESPONSES_BODY,
    SCORE_BODY,
    chat_body,
)

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
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_KEY_SCHEMES: JsonObject = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The API key, as OpenAI's clients send it"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key", "description": "The same, as Azure's"},
}
_ERRORS: dict[str, tuple[str, ApiError]] = {
    "400": (
        "The request is invalid",
        InvalidRequest("messages must be a list with at least one message; it is missing", param="messages"),
    ),
    "401": ("The key is missing, unknown or expired", missing_key()),
    "403": (
        "The key does not permit the model or a tool",
        NotPermitted(
            "The key 'alice' does not permit the model 'large'. Permitted: small.",
            param="model",
            code="model_not_permitted",
        ),
    ),
    "413": ("The body is too large", too_large(9_000_000, 8_388_608)),
    "429": (
        "Too many requests at once, or a limit of the key is reached",
        RateLimited(
            "The key 'alice' has reached its limit of 300 requests per minute. Try again in 12s, when the "
            "next minute begins.",
            kind="requests",
            headers={"retry-after": "12"},
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

_OTHER_ERROR: JsonObject = {
    "description": "Another error, such as one of the engine",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
_ANSWER_EXAMPLE: JsonObject = {
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


def complete(
    schema: JsonObject,
    *,
    needs_key: bool,
    serves_mcp: bool = False,
    tools: Sequence[str] = (),
    served: Container[str] | None = None,
) -> JsonObject:
    """Adds the POST routes, the errors and, with `needs_key`, the keys to FastAPI's description.

    Args:
        serves_mcp: whether the server has the route `/mcp`.
        tools: names of the tools that the server runs.
        served: the POST routes that a model has, if requests are divided among models by name.
    """
    mcp = mcp_route() if serves_mcp else {}
    posts = post_routes(tools)
    if served is not None:
        posts |= pooling_routes() | audio_routes()
        posts = {route: item for route, item in posts.items() if route in served}
    schema["paths"] = {**posts, **stored_routes(), **mcp, **schema["paths"]}
    for item in schema["paths"].values():
        for operation in item.values():
            operation["responses"].pop("422", None)  # FastAPI's own, which is never sent
            operation["responses"].setdefault("default", _OTHER_ERROR)
    components = schema.setdefault("components", {})
    components["schemas"] = {"Error": _ERROR_SCHEMA, "Model": MODEL}
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


def post_routes(tools: Sequence[str] = ()) -> JsonObject:
    """Returns the OpenAPI path items."""
    return {
        "/v1/chat/completions": _post(
            "Chat. The server runs its tools and answers when they are done.", chat_body(tools), tools=True
        ),
        "/v1/completions": _post("Relayed to the engine", COMPLETION_BODY),
        "/v1/embeddings": _post("Relayed to the engine", EMBEDDINGS_BODY),
        "/v1/responses": _post(
            "A response. The server runs its tools; without them, relayed to the engine", RESPONSES_BODY
        ),
        "/v1/messages": _post(
            "A message of Anthropic's API. The server runs its tools; without them, relayed to the engine",
            MESSAGES_BODY,
        ),
        "/v1/messages/count_tokens": _post(
            "Counts the tokens of a message's request", {**MESSAGES_BODY, "required": ["messages"]}
        ),
    }


def pooling_routes() -> JsonObject:
    """Returns the OpenAPI path items of what only embedding models and rerankers have."""
    return {
        "/v1/rerank": _post("Sorts documents by their relevance to a query", RERANK_BODY),
        "/v1/score": _post("Compares each query with its document", SCORE_BODY),
        "/v1/classify": _post("The classes of texts", CLASSIFY_BODY),
        "/v1/pooling": _post("The vectors or scores that the model gives for texts", POOLING_BODY),
    }


def audio_routes() -> JsonObject:
    """Returns the OpenAPI path items of what only speech-to-text models have, whose bodies are forms."""
    return {
        "/v1/audio/transcriptions": _post(
            "The text of a recording", AUDIO_FORM, media_type="multipart/form-data"
        ),
        "/v1/audio/translations": _post(
            "The text of a recording, in English", AUDIO_FORM, media_type="multipart/form-data"
        ),
    }


def stored_routes() -> JsonObject:
    """Returns the OpenAPI path items of stored responses."""
    return {
        "/v1/responses/{response_id}": {
            "get": _stored("A stored response"),
            "delete": _stored("Deletes a stored response"),
        },
        "/v1/responses/{response_id}/input_items": {"get": _stored("The input of a stored response")},
    }


def mcp_route() -> JsonObject:
    """Returns the OpenAPI path item of the server's tools for clients of MCP, whose errors are JSON-RPC's."""
    error = {"description": "An error", "content": {"application/json": {"schema": MCP_ERROR}}}
    statuses = ("400", "401", "403", "404", "413", "429", "503", "504", "default")
    return {
        "/mcp": {
            "post": {
                "tags": ["tools"],
                "summary": "The server's tools for clients of the Model Context Protocol",
                "requestBody": {"required": True, "content": {"application/json": {"schema": MCP_BODY}}},
                "responses": {
                    "200": {
                        "description": "The answer",
                        "content": {"application/json": {"schema": MCP_ANSWER}},
                    },
                    "202": {"description": "A notification was accepted"},
                    **dict.fromkeys(statuses, error),
                },
            }
        }
    }


def _stored(summary: str) -> JsonObject:
    return {
        "tags": ["openai"],
        "summary": summary,
        "parameters": [{"name": "response_id", "in": "path", "required": True, "schema": {"type": "string"}}],
        "responses": {
            "200": {"description": "Found", "content": {"application/json": {"schema": {"type": "object"}}}},
            **{status: {"$ref": f"#/components/responses/{status}"} for status in ("400", "401", "503")},
            "default": _OTHER_ERROR,
        },
    }


def _post(
    summary: str, body: JsonObject, *, tools: bool = False, media_type: str = "application/json"
) -> JsonObject:
    execution = {
        "name": "X-Tool-Execution",
        "in": "header",
        "schema": {"type": "string"},
        "description": "`client` leaves all tools to the client, `get_current_weather=client` a single one.",
    }
    answer: JsonObject = {"schema": {"type": "object"}}
    if tools:
        answer = {"schema": CHAT_ANSWER, "example": _ANSWER_EXAMPLE}
    return {
        "post": {
            "tags": ["openai"],
            "summary": summary,
            "parameters": [execution] if tools else [],
            "requestBody": {"required": True, "content": {media_type: {"schema": body}}},
            "responses": {
                "200": {
                    "description": "The answer, or a stream of it",
                    "content": {
                        "application/json": answer,
                        "text/event-stream": {"schema": EVENT},
                    },
                },
                **{status: {"$ref": f"#/components/responses/{status}"} for status in _ERRORS},
                "default": _OTHER_ERROR,
            },
        }
    }
