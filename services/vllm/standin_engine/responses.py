"""/v1/responses: vLLM's JSON, as one body and as a stream. Like vLLM by default, it stores nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import orjson

from .chat import EventStream, PromptTokens
from .requests import ChatRequest, JsonObject
from .tokens import tokenize
from .turn import Generated


def whole(body: JsonObject, request: ChatRequest, prompt: PromptTokens, generated: Generated) -> JsonObject:
    """Returns the body of a response that is not streamed."""
    return _response(body, request, _new_id("resp"), _items(generated), (prompt, generated))


def stream(body: JsonObject, request: ChatRequest, prompt: PromptTokens, generated: Generated) -> EventStream:
    """Returns the events of a streamed response, which ends with `response.completed`, not with `[DONE]`."""
    identity, items = _new_id("resp"), _items(generated)
    number = -1

    def event(kind: str, fields: JsonObject) -> bytes:
        nonlocal number
        number += 1
        fields = fields | {"sequence_number": number, "type": kind}
        data = orjson.dumps(
            {key: fields[key] for key in sorted(fields, key=lambda key: (key == "name", key))}
        )
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    def steps() -> Iterator[list[bytes]]:
        begun = {"response": _response(body, request, identity, [], None)}
        events = [event("response.created", begun), event("response.in_progress", begun)]
        for index, item in enumerate(items):
            content = _call_events(item, index) if item["type"] == "function_call" else None
            for kind, fields in content or _text_events(item, index, generated):
                events.append(event(kind, fields))
                yield events
                events = []
        done = _response(body, request, identity, items, (prompt, generated))
        yield [*events, event("response.completed", {"response": done})]

    return EventStream(steps(), [])


def _new_id(prefix: str) -> str:
    return f"{prefix}_{os.urandom(8).hex()}"


def _items(generated: Generated) -> list[JsonObject]:
    calls = generated.message.get("tool_calls")
    if calls:
        return [
            {
                "arguments": call["function"].get("arguments", ""),
                "call_id": call["id"],
                "name": call["function"]["name"],
                "type": "function_call",
                "id": _new_id("fc"),
                "async": None,
                "caller": None,
                "namespace": None,
                "status": "completed",
            }
            for call in calls
        ]
    part = _part(generated.message["content"] or "", None)
    return [
        {
            "id": _new_id("msg"),
            "content": [part],
            "role": "assistant",
            "status": "completed",
            "type": "message",
            "phase": None,
        }
    ]


def _part(text: str, logprobs: list[Any] | None) -> JsonObject:
    return {"annotations": [], "text": text, "type": "output_text", "logprobs": logprobs}


def _call_events(item: JsonObject, index: int) -> Iterator[tuple[str, JsonObject]]:
    place = {"item_id": item["id"], "output_index": index}
    begun = item | {"arguments": "", "status": "in_progress"}
    yield "response.output_item.added", {"item": begun, "output_index": index}
    for piece in tokenize(item["arguments"]):
        yield "response.function_call_arguments.delta", {"delta": piece} | place
    done = {"arguments": item["arguments"]} | place | {"name": item["name"]}
    yield "response.function_call_arguments.done", done
    yield "response.output_item.done", {"item": item, "output_index": index}


def _text_events(item: JsonObject, index: int, generated: Generated) -> Iterator[tuple[str, JsonObject]]:
    place = {"content_index": 0, "item_id": item["id"], "output_index": index}
    begun = item | {"content": [], "status": "in_progress"}
    text = item["content"][0]["text"]
    yield "response.output_item.added", {"item": begun, "output_index": index}
    yield "response.content_part.added", place | {"part": _part("", [])}
    for token in generated.tokens:
        yield "response.output_text.delta", place | {"delta": token.text, "logprobs": []}
    yield "response.output_text.done", place | {"logprobs": [], "text": text}
    yield "response.content_part.done", place | {"part": item["content"][0]}
    yield "response.output_item.done", {"item": item, "output_index": index}


def _response(
    body: JsonObject,
    request: ChatRequest,
    identity: str,
    output: list[JsonObject],
    finished: tuple[PromptTokens, Generated] | None,
) -> JsonObject:
    truncated = finished is not None and finished[1].finish_reason == "length"
    status = "in_progress" if finished is None else "incomplete" if truncated else "completed"
    limit = body.get("max_output_tokens")
    return {
        "id": identity,
        "created_at": int(time.time()),
        "incomplete_details": {"reason": "max_output_tokens"} if truncated else None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata"),
        "model": request.sampling.model,
        "object": "response",
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "temperature": float(body["temperature"]) if body.get("temperature") is not None else 1.0,
        "tool_choice": _tool_choice(body),
        "tools": [_tool(tool) for tool in body.get("tools") or ()],
        "top_p": float(body["top_p"]) if body.get("top_p") is not None else 1.0,
        "background": False,
        "max_output_tokens": limit,
        "max_tool_calls": body.get("max_tool_calls"),
        "previous_response_id": None,
        "prompt": None,
        "reasoning": body.get("reasoning"),
        "service_tier": "auto",
        "status": status,
        "text": body.get("text"),
        "top_logprobs": None,
        "truncation": "disabled",
        "usage": _usage(*finished) if finished else None,
        "user": body.get("user"),
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "input_messages": None,
        "output_messages": None,
    }


def _tool_choice(body: JsonObject) -> str | JsonObject:
    choice = body.get("tool_choice") or ("auto" if body.get("tools") else "none")
    return {"name": choice.get("name"), "type": "function"} if isinstance(choice, dict) else str(choice)


def _tool(tool: JsonObject) -> JsonObject:
    if tool.get("type") != "function":
        return tool
    return {
        "name": tool.get("name"),
        "parameters": tool.get("parameters"),
        "strict": tool.get("strict"),
        "type": "function",
        "allowed_callers": None,
        "async": None,
        "defer_loading": None,
        "description": tool.get("description"),
        "output_schema": None,
    }


def _usage(prompt: PromptTokens, generated: Generated) -> JsonObject:
    return {
        "input_tokens": prompt.count,
        "input_tokens_details": {
            "cached_tokens": prompt.cached if prompt.detailed else 0,
            "cache_write_tokens": prompt.count - prompt.cached if prompt.detailed else 0,
            "input_tokens_per_turn": [],
            "cached_tokens_per_turn": [],
        },
        "output_tokens": generated.count,
        "output_tokens_details": {
            "reasoning_tokens": 0,
            "tool_output_tokens": 0,
            "output_tokens_per_turn": [],
            "tool_output_tokens_per_turn": [],
        },
        "total_tokens": prompt.count + generated.count,
    }
