"""JSON schemas of the POST routes' bodies and of the chat answer, for the OpenAPI description.

They have the fields of OpenAI's reference that clients use most. Fields that are not listed are passed to the
engine too, so every object allows more.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..protocol import NAME_AT_MOST, JsonObject

_TEXT: JsonObject = {"type": "string"}
_TEXT_OR_NULL: JsonObject = {"type": ["string", "null"]}
_FLAG: JsonObject = {"type": ["boolean", "null"]}
_COUNT: JsonObject = {"type": ["integer", "null"], "minimum": 1}
_OBJECT: JsonObject = {"type": "object"}


def _object(properties: JsonObject, *required: str, **more: object) -> JsonObject:
    return {"type": "object", "properties": properties, "required": list(required), **more}


def _list(items: JsonObject, **more: object) -> JsonObject:
    return {"type": "array", "items": items, **more}


_PART = _object({"type": _TEXT, "text": _TEXT, "image_url": _OBJECT}, "type")
_CALL = _object(
    {
        "id": _TEXT,
        "type": {"const": "function"},
        "function": _object({"name": _TEXT, "arguments": _TEXT}, "name", "arguments"),
    },
    "id", "type", "function",
)  # fmt: skip
_MESSAGE = _object(
    {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {"anyOf": [_TEXT_OR_NULL, _list(_PART)]},
        "name": _TEXT,
        "tool_calls": _list(_CALL, minItems=1),
        "tool_call_id": _TEXT,
        "reasoning": _TEXT_OR_NULL,
    },
    "role",
)  # fmt: skip
_STOP: JsonObject = {"anyOf": [_TEXT_OR_NULL, _list(_TEXT)]}
_SAMPLING: JsonObject = {
    "model": {"type": "string", "description": "One of `/v1/models`. Default: the engine's model."},
    "stream": _FLAG,
    "stream_options": {"anyOf": [_object({"include_usage": {"type": "boolean"}}), {"type": "null"}]},
    "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
    "top_p": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1},
    "max_tokens": _COUNT,
    "n": _COUNT,
    "seed": {"type": ["integer", "null"]},
    "stop": _STOP,
    "presence_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
    "frequency_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
    "user": _TEXT,
}
_FORMAT: JsonObject = {"enum": ["text", "json_object", "json_schema"]}
_INPUT: JsonObject = {"anyOf": [_TEXT, _list(_TEXT, minItems=1)]}


def _tool(names: Sequence[str]) -> JsonObject:
    name: JsonObject = {"type": "string", "minLength": 1, "maxLength": NAME_AT_MOST}
    if names:
        name = {"anyOf": [{"enum": list(names), "description": "Run by the server"}, name]}
    function = {"name": name, "description": _TEXT_OR_NULL, "parameters": _OBJECT, "strict": _FLAG}
    return _object({"type": {"const": "function"}, "function": _object(function, "name")}, "type", "function")


def _tool_choice(names: Sequence[str]) -> JsonObject:
    name: JsonObject = {"enum": list(names)} if names else _TEXT
    named = _object(
        {"type": {"const": "function"}, "function": _object({"name": name}, "name")}, "type", "function"
    )
    return {"anyOf": [{"enum": ["none", "auto", "required"]}, named]}


def chat_body(tools: Sequence[str]) -> JsonObject:
    """Returns the schema of a chat request.

    Args:
        tools: names of the tools that the server runs.
    """
    return _object(
        {
            **_SAMPLING,
            "messages": _list(_MESSAGE, minItems=1),
            "tools": _list(
                _tool(tools),
                description="The server runs the tools that /v1/tools lists. For these, the name is enough.",
            ),
            "tool_choice": _tool_choice(tools),
            "parallel_tool_calls": _FLAG,
            "max_completion_tokens": _COUNT,
            "logprobs": _FLAG,
            "top_logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 20},
            "response_format": _object({"type": _FORMAT, "json_schema": _OBJECT}, "type"),
            "tandem": _object(
                {"events": {"type": "boolean"}},
                description="`events: true` reports each tool call, its result and its duration.",
            ),
        },
        "messages",
        example={
            "messages": [{"role": "user", "content": "What is the weather in San Francisco?"}],
            "tools": [{"type": "function", "function": {"name": "get_current_weather"}}],
        },
    )


COMPLETION_BODY = _object(
    {
        **_SAMPLING,
        "prompt": _INPUT,
        "echo": _FLAG,
        "suffix": _TEXT_OR_NULL,
        "logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 5},
    },
    "prompt",
)
EMBEDDINGS_BODY = _object(
    {
        "model": _SAMPLING["model"],
        "input": _INPUT,
        "encoding_format": {"enum": ["float", "base64"]},
        "dimensions": _COUNT,
        "user": _TEXT,
    },
    "input",
)
_TEXTS_INPUT = _object({"model": _SAMPLING["model"], "input": _INPUT, "user": _TEXT}, "input")
CLASSIFY_BODY = _TEXTS_INPUT
POOLING_BODY = _object({**_TEXTS_INPUT["properties"], "dimensions": _COUNT}, "input")
RERANK_BODY = _object(
    {
        "model": _SAMPLING["model"],
        "query": _TEXT,
        "documents": _INPUT,
        "top_n": {"type": "integer", "minimum": 0, "description": "How many to return. 0: all."},
    },
    "query", "documents",
    example={"query": "How do I get a refund?", "documents": ["Refunds take five days.", "We are closed."]},
)  # fmt: skip
SCORE_BODY = _object(
    {"model": _SAMPLING["model"], "queries": _INPUT, "documents": _INPUT}, "queries", "documents"
)
AUDIO_FORM = _object(
    {
        "file": {"type": "string", "format": "binary", "description": "Audio, in a format that vLLM reads"},
        "model": _SAMPLING["model"],
        "language": {**_TEXT, "description": "The language of the audio, as in ISO 639-1"},
        "prompt": {**_TEXT, "description": "Text before the audio, or names that occur in it"},
        "response_format": {"enum": ["json", "text", "verbose_json"]},
        "temperature": {"type": "number", "minimum": 0},
        "stream": {"type": "boolean"},
    },
    "file",
)
RESPONSES_BODY = _object(
    {
        **{name: _SAMPLING[name] for name in ("model", "stream", "temperature", "top_p", "user")},
        "input": {"anyOf": [_TEXT, _list(_OBJECT, minItems=1)]},
        "instructions": _TEXT_OR_NULL,
        "max_output_tokens": _COUNT,
        "tools": _list(
            _object({"type": _TEXT, "name": _TEXT}, "type"),
            description="The server runs the functions that /v1/tools lists. For these, the name is enough.",
        ),
        "tool_choice": {"anyOf": [{"enum": ["none", "auto", "required"]}, _OBJECT]},
        "text": _object(
            {"format": _object({"type": {"enum": ["text", "json_object", "json_schema"]}}, "type")}
        ),
    },
    "input",
)
MESSAGES_BODY = _object(
    {
        "model": _SAMPLING["model"],
        "max_tokens": {"type": "integer", "minimum": 1},
        "messages": _list(
            _object({"role": {"enum": ["user", "assistant", "system"]}}, "role", "content"), minItems=1
        ),
        "system": {"anyOf": [_TEXT_OR_NULL, _list(_OBJECT)]},
        "stream": _FLAG,
        "temperature": _SAMPLING["temperature"],
        "top_p": _SAMPLING["top_p"],
        "stop_sequences": {"anyOf": [_list(_TEXT), {"type": "null"}]},
        "tools": _list(
            _object({"name": _TEXT, "description": _TEXT_OR_NULL, "input_schema": _OBJECT}, "name"),
            description="The server runs the tools that /v1/tools lists. For these, the name is enough.",
        ),
        "tool_choice": _object({"type": {"enum": ["auto", "any", "tool", "none"]}}, "type"),
    },
    "max_tokens", "messages",
)  # fmt: skip
CHAT_ANSWER = _object(
    {
        "id": _TEXT,
        "object": {"const": "chat.completion"},
        "created": {"type": "integer"},
        "model": _TEXT,
        "choices": _list(
            _object(
                {
                    "index": {"type": "integer"},
                    "message": _object(
                        {
                            "role": {"const": "assistant"},
                            "content": _TEXT_OR_NULL,
                            "tool_calls": {"anyOf": [_list(_CALL), {"type": "null"}]},
                            "reasoning": _TEXT_OR_NULL,
                        },
                        "role", "content",
                    ),
                    "finish_reason": {"enum": ["stop", "length", "tool_calls", "content_filter"]},
                },
                "index", "message", "finish_reason",
            ),
            minItems=1,
        ),
        "usage": _object(
            {name: {"type": "integer"} for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
            "prompt_tokens", "completion_tokens", "total_tokens",
        ),
    },
    "id", "object", "created", "model", "choices", "usage",
)  # fmt: skip
MODEL = _object(
    {
        "id": _TEXT,
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": _TEXT,
        "tandem": {
            "type": "object",
            "description": "The state of an engine that starts on demand, and the seconds that a start takes",
        },
    },
    "id",
    "object",
)
EVENT = _object({"event": _TEXT, "data": {"type": "string", "description": "A chunk, or `[DONE]`"}}, "data")

_JSON_RPC: JsonObject = {"jsonrpc": {"const": "2.0"}, "id": {"type": ["string", "integer", "null"]}}
MCP_BODY = _object(
    {
        "jsonrpc": {"const": "2.0"},
        "id": {"type": ["string", "integer"], "description": "Left out in notifications."},
        "method": {
            "anyOf": [{"enum": ["initialize", "ping", "tools/list", "tools/call"]}, {"type": "string"}]
        },
        "params": {"type": "object"},
    },
    "jsonrpc",
    "method",
    example={
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "calculate_math", "arguments": {"expression": "6*7"}},
    },
)
_MCP_FAILURE: JsonObject = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
}
MCP_ERROR = _object({**_JSON_RPC, "error": _MCP_FAILURE}, "jsonrpc", "error")
MCP_ANSWER = _object({**_JSON_RPC, "result": {"type": "object"}, "error": _MCP_FAILURE}, "jsonrpc")
