"""The message that the loop's events describe, as a stream of Anthropic's events and as a whole."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import orjson

from ...chat.conversation import Chunk, Ending, Event, ToolEvent
from ...errors import ApiError
from ...protocol import JsonObject
from ..error_format import ANTHROPIC_ERRORS
from .content import OWN_SERVER

Origin = Callable[[str], tuple[str, str]]
"""Returns the server of a tool and its name there, by the tool's name in chat."""

_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
"""Stop reasons by the loop's finish reason; any other means the end of the turn, or a stop sequence."""

_DELTAS = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}


class MessageProjection:
    """One message. Its blocks follow each other: each one stops before the next starts."""

    def __init__(self, model: str, origin: Origin = lambda name: (OWN_SERVER, name)) -> None:
        self._origin = origin
        self.answer: JsonObject = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        self._events: list[JsonObject] = []
        self._begun = False
        self._pieces: list[str] = []  # of the block that is open
        self._open: JsonObject | None = None
        self._space = ""
        self._live: int | None = None  # the client's call that is the open block
        self._waiting: dict[int, JsonObject] = {}  # the client's other calls

    def project(self, item: Event) -> list[JsonObject]:
        self._begin(item)
        if isinstance(item, Chunk):
            self._chunk(item.delta)
        elif isinstance(item, ToolEvent):
            self._tool(item.event)
        else:
            self._end(item)
        events, self._events = self._events, []
        return events

    def lines(self, request_id: str) -> bytes:
        return ANTHROPIC_ERRORS.lines(request_id)

    def body(self, error: ApiError, request_id: str) -> bytes:
        return ANTHROPIC_ERRORS.body(error, request_id)

    def last_events(self, error: ApiError, request_id: str) -> bytes:
        stopped = self.answer["stop_reason"] is not None
        return b"" if stopped else ANTHROPIC_ERRORS.last_events(error, request_id)

    def _report(self, kind: str, **fields: Any) -> None:
        self._events.append({"type": kind, **fields})

    def _begin(self, item: Event) -> None:
        if self._begun:
            return
        self._begun = True
        if not isinstance(item, ToolEvent):
            if isinstance(model := item.chunk.get("model"), str):
                self.answer["model"] = model
            if item.usage:
                self.answer["usage"] = _usage(item.usage)
        self._report("message_start", message={**self.answer, "content": []})

    @property
    def _index(self) -> int:
        return len(self.answer["content"]) - 1

    def _start(self, block: JsonObject) -> None:
        """Starts a block after the one that is open."""
        self._stop()
        self.answer["content"].append(block)
        self._open = block
        self._report("content_block_start", index=self._index, content_block={**block})

    def _delta(self, kind: str, field: str, piece: str) -> None:
        self._report("content_block_delta", index=self._index, delta={"type": kind, field: piece})

    def _stop(self) -> None:
        """Stops the open block."""
        block, self._open = self._open, None
        if block is None:
            return
        text = "".join(self._pieces)
        self._pieces = []
        if block["type"] == "tool_use":
            block["input"] = _object(text)
            self._live = None
        elif block["type"] in _DELTAS:
            block[block["type"]] = text
        if block["type"] == "thinking":
            block["signature"] = uuid.uuid4().hex  # clients reject thinking without one
            self._delta("signature_delta", "signature", block["signature"])
        self._report("content_block_stop", index=self._index)

    def _chunk(self, delta: JsonObject) -> None:
        if reasoning := delta.get("reasoning") or delta.get("reasoning_content"):
            self._write("thinking", {"type": "thinking", "thinking": "", "signature": ""}, reasoning)
        if text := delta.get("content"):
            text = self._space + text
            self._space = ""
            if text.isspace() and (self._open is None or self._open["type"] != "text"):
                self._space = text  # models write line breaks before a call
            else:
                self._write("text", {"type": "text", "text": ""}, text)
        for call in delta.get("tool_calls") or ():
            self._client_call(call)

    def _write(self, kind: str, block: JsonObject, text: str) -> None:
        if self._open is None or self._open["type"] != kind:
            self._flush_calls()
            self._start(block)
        self._pieces.append(text)
        self._delta(*_DELTAS[kind], text)

    def _client_call(self, delta: JsonObject) -> None:
        """Shows the first call as it arrives. The others wait, since blocks cannot overlap."""
        index, function = delta["index"], delta.get("function") or {}
        arguments = function.get("arguments") or ""
        if index == self._live:
            if arguments:
                self._pieces.append(arguments)
                self._delta("input_json_delta", "partial_json", arguments)
        elif index in self._waiting:
            self._waiting[index]["pieces"].append(arguments)
        elif delta.get("id") and function.get("name"):
            call = {"id": delta["id"], "name": function["name"], "pieces": [arguments]}
            if self._live is None:
                self._show_call(call, index)
            else:
                self._waiting[index] = call

    def _show_call(self, call: JsonObject, index: int) -> None:
        self._start({"type": "tool_use", "id": call["id"], "name": call["name"], "input": {}})
        self._live = index
        arguments = "".join(call["pieces"])
        self._pieces.append(arguments)
        if arguments:
            self._delta("input_json_delta", "partial_json", arguments)

    def _flush_calls(self) -> None:
        self._stop()
        waiting, self._waiting = self._waiting, {}
        for index, call in waiting.items():
            self._show_call(call, index)
            self._stop()

    def _tool(self, tool: JsonObject) -> None:
        self._flush_calls()
        self._space = ""
        if tool["type"] == "tool_call.started":
            server, name = self._origin(tool["name"])
            names = {"id": tool["id"], "name": name, "server_name": server}
            self._start({"type": "mcp_tool_use", **names, "input": _object(tool["arguments"])})
        else:
            content = [{"type": "text", "text": tool["result"]}]
            failed = tool["outcome"] != "ok"
            result = {"tool_use_id": tool["id"], "is_error": failed, "content": content}
            self._start({"type": "mcp_tool_result", **result})
        self._stop()

    def _end(self, ending: Ending) -> None:
        self._flush_calls()
        stopped_at = ending.chunk["choices"][0].get("stop_reason")
        by_sequence = ending.finish_reason == "stop" and isinstance(stopped_at, str)
        reason = "stop_sequence" if by_sequence else _REASONS.get(ending.finish_reason, "end_turn")
        stop = {"stop_reason": reason, "stop_sequence": stopped_at if by_sequence else None}
        self.answer |= {**stop, "usage": _usage(ending.usage)}
        self._report("message_delta", delta=stop, usage=self.answer["usage"])
        self._report("message_stop")


def _object(arguments: str) -> JsonObject:
    """Returns a call's arguments, `{}` if the model wrote no JSON object."""
    try:
        value = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _usage(usage: JsonObject) -> JsonObject:
    """Returns the usage. Anthropic counts the tokens from the cache beside the others, not with them."""
    details = usage.get("prompt_tokens_details")
    cached = _count(details, "cached_tokens")
    return {
        "input_tokens": max(_count(usage, "prompt_tokens") - cached, 0),
        "cache_read_input_tokens": cached,
        "output_tokens": _count(usage, "completion_tokens"),
    }


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if type(value) is int else 0
