"""/v1/messages: vLLM's JSON in Anthropic's format, as one body and as a stream, and its count of tokens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import orjson

from .chat import EventStream, PromptTokens
from .errors import invalid, problem
from .requests import ChatRequest, JsonObject
from .turn import Generated

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def chat_body(body: JsonObject, *, generates: bool) -> JsonObject:
    """Turns a body of /v1/messages into one of /v1/chat/completions.

    Raises:
        ApiError: A field is missing or has another type.
    """
    required = ("model", "messages", "max_tokens") if generates else ("model", "messages")
    missing = [
        problem("missing", f"body.{name}", "Field required", body) for name in required if name not in body
    ]
    if missing:
        raise invalid(*missing)
    try:
        return _converted(body, generates=generates)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise invalid(
            problem("value_error", "body", "Input should have the fields and types of a message", body)
        ) from None


def _converted(body: JsonObject, *, generates: bool) -> JsonObject:
    chat: JsonObject = {
        name: body[name] for name in ("model", "temperature", "top_p", "stream", "standin") if name in body
    }
    chat["messages"] = [*_system(body.get("system"))]
    for message in body["messages"]:
        chat["messages"] += _messages(message)
    if generates:
        chat["max_completion_tokens"] = body["max_tokens"]
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    if tools := body.get("tools"):
        chat["tools"] = [_tool(tool, index) for index, tool in enumerate(tools)]
        choice = body.get("tool_choice") or {"type": "auto"}
        named = {"type": "function", "function": {"name": choice.get("name")}}
        chat["tool_choice"] = _CHOICES.get(choice["type"], named)
        chat["parallel_tool_calls"] = not choice.get("disable_parallel_tool_use")
    return chat


def whole(request: ChatRequest, prompt: PromptTokens, generated: Generated, identity: str) -> JsonObject:
    """Returns the body of a message that is not streamed; null fields are left out."""
    message = {
        "id": identity,
        "type": "message",
        "role": "assistant",
        "content": _blocks(generated),
        "model": request.sampling.model,
        "stop_reason": _stop_reason(generated),
        "stop_sequence": generated.stop_reason,
        "usage": _usage(prompt, generated.count),
    }
    return {name: value for name, value in message.items() if value is not None}


def stream(request: ChatRequest, prompt: PromptTokens, generated: Generated, identity: str) -> EventStream:
    """Returns the events of a streamed message."""

    def steps() -> Iterator[list[bytes]]:
        begun: JsonObject = {
            "id": identity,
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": request.sampling.model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": prompt.count, "output_tokens": 0},
        }
        events = [_event("message_start", {"message": begun})]
        for index, block in enumerate(_blocks(generated)):
            for fields in _deltas(block, generated):
                events.append(_event(fields.pop("kind"), {"index": index} | fields))
                yield events
                events = []
        stop = {"stop_reason": _stop_reason(generated), "stop_sequence": generated.stop_reason}
        yield [
            *events,
            _event("message_delta", {"delta": stop, "usage": _usage(prompt, generated.count)}),
            _event("message_stop", {}),
        ]

    return EventStream(steps(), [])


def new_id() -> str:
    return f"chatcmpl-{os.urandom(8).hex()}"


def count(prompt: int) -> JsonObject:
    """Returns the answer of /v1/messages/count_tokens."""
    return {"input_tokens": prompt, "context_management": {"original_input_tokens": prompt}}


def _event(kind: str, fields: JsonObject) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind} | fields) + b"\n\n"


def _blocks(generated: Generated) -> list[JsonObject]:
    content = generated.message["content"]
    blocks: list[JsonObject] = [{"type": "text", "text": content}] if content else []
    for call in generated.message.get("tool_calls") or ():
        given = orjson.loads(call["function"].get("arguments") or "{}")
        blocks.append(
            {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": given}
        )
    return blocks


def _deltas(block: JsonObject, generated: Generated) -> Iterator[JsonObject]:
    if block["type"] == "text":
        pieces = [token.text for token in generated.tokens if token.delta and token.delta.get("content")]
        begun: JsonObject = {"type": "text", "text": ""}
        kind, field = "text_delta", "text"
    else:
        pieces = [orjson.dumps(block["input"]).decode()]
        begun = block | {"input": {}}
        kind, field = "input_json_delta", "partial_json"
    yield {"kind": "content_block_start", "content_block": begun}
    for piece in pieces:
        yield {"kind": "content_block_delta", "delta": {"type": kind, field: piece}}
    yield {"kind": "content_block_stop"}


def _stop_reason(generated: Generated) -> str:
    if generated.finish_reason == "length":
        return "max_tokens"
    if generated.message.get("tool_calls"):
        return "tool_use"
    return "stop_sequence" if generated.stop_reason else "end_turn"


def _usage(prompt: PromptTokens, count: int) -> JsonObject:
    if not prompt.detailed:
        return {"input_tokens": prompt.count, "output_tokens": count}
    created = prompt.count - prompt.cached
    return {
        "input_tokens": 0,
        "output_tokens": count,
        "cache_creation_input_tokens": created,
        "cache_read_input_tokens": prompt.cached,
    }


def _tool(tool: JsonObject, index: int) -> JsonObject:
    if "input_schema" not in tool:
        raise invalid(problem("missing", f"body.tools.{index}.input_schema", "Field required", tool))
    function = {"name": tool.get("name"), "parameters": tool["input_schema"]}
    if tool.get("description"):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _system(system: Any) -> Iterator[JsonObject]:
    if system:
        text = system if isinstance(system, str) else "".join(block.get("text", "") for block in system)
        yield {"role": "system", "content": text}


def _messages(message: JsonObject) -> Iterator[JsonObject]:
    """Yields the results in a message of the user, then the message itself."""
    content = message.get("content")
    if isinstance(content, str):
        yield message
        return
    texts, calls = [], []
    if not isinstance(content, list):
        raise TypeError("content must be a string or a list")
    for block in content:
        if block.get("type") == "text":
            texts.append(block["text"])
        elif block.get("type") == "tool_use":
            function = {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()}
            calls.append({"id": block["id"], "type": "function", "function": function})
        elif block.get("type") == "tool_result":
            result = block.get("content") or ""
            if not isinstance(result, str):
                result = "\n".join(part.get("text", "") for part in result)
            yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": result}
    if calls:
        yield {"role": "assistant", "content": "".join(texts) or None, "tool_calls": calls}
    elif texts or not content:
        yield {"role": message["role"], "content": "\n".join(texts)}
