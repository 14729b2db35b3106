"""The response that the loop's events describe, as a stream of events and as a whole."""

from __future__ import annotations

import itertools
import time
from typing import Any

from ...chat.conversation import Chunk, Ending, Event, ToolEvent
from ...errors import ApiError, CallerError, Overloaded
from ...protocol import JsonObject, event
from ..error_format import OPENAI_ERRORS
from ..projected import encode
from .items import valid_arguments
from .mcp import OWN_LABEL
from .output import CallItem, TextItem, new_id, report_listing
from .request import ResponseRequest

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Reasons for an incomplete response by the engine's finish reason."""


class ResponseProjection:
    """One response. Its events are reported in the order of `sequence_number`."""

    def __init__(self, request: ResponseRequest) -> None:
        self.answer: JsonObject = {
            "id": new_id("resp"),
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": request.chat.get("model") or "-",
            "output": [],
            "usage": None,
            **request.echo,
        }
        self._mcp = request.mcp
        self._approved = {call.id for call in request.approved}
        self._running: dict[str, list[CallItem]] = {}  # calls that the server runs
        self._events: list[JsonObject] = []
        self._number = 0
        self._items = 0
        self._text: TextItem | None = None
        self._space = ""
        self._reasoning: TextItem | None = None
        self._calls: dict[int, CallItem] = {}
        self._done: dict[int, JsonObject] = {}
        self._begun = False

    def project(self, item: Event) -> list[JsonObject]:
        if isinstance(item, Chunk):
            self._begin(item.chunk)
            self._chunk(item)
        elif isinstance(item, ToolEvent):
            self._tool(item.event)
        else:
            self._end(item)
        events, self._events = self._events, []
        return events

    def lines(self, request_id: str) -> bytes:
        return OPENAI_ERRORS.lines(request_id)

    def body(self, error: ApiError, request_id: str) -> bytes:
        return OPENAI_ERRORS.body(error, request_id)

    def last_events(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002 (it is in the header)
        """Returns the events that end the response after a failure.

        After a failure to encode, only the error is sent: the response itself may be what cannot be encoded.
        """
        if self.answer["status"] != "in_progress":
            return b""  # the last event has been sent
        code = "server_error"
        if isinstance(error, CallerError):
            code = "rate_limit_exceeded" if isinstance(error, Overloaded) else "invalid_prompt"
        self._begin({})
        self._close("incomplete")
        for call in itertools.chain.from_iterable(self._running.values()):
            call.finish(self._report, error.message, failed=True)
            self._done[call.index] = call.item
        self._finish("failed", error={"code": code, "message": error.message})
        try:
            return encode(self._events)
        except ValueError:
            return event(error.body())

    def _report(self, kind: str, **fields: Any) -> None:
        self._events.append({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1

    def _begin(self, chunk: JsonObject) -> None:
        if self._begun:
            return
        self._begun = True
        if isinstance(model := chunk.get("model"), str):
            self.answer["model"] = model
        for kind in ("response.created", "response.in_progress"):
            self._report(kind, response={**self.answer, "output": []})
        for listing in self._mcp.listings:
            index = self._next_index()
            self._done[index] = report_listing(self._report, index, listing)

    def _next_index(self) -> int:
        self._items += 1
        return self._items - 1

    def _chunk(self, item: Chunk) -> None:
        delta = item.delta
        if reasoning := delta.get("reasoning") or delta.get("reasoning_content"):
            self._add_reasoning(reasoning)
        if text := delta.get("content"):
            self._add_text(text, _logprobs(item.tokens))
        if calls := delta.get("tool_calls"):
            self._add_calls(calls)

    def _add_reasoning(self, text: str) -> None:
        self._end_text()
        if self._reasoning is None:
            self._reasoning = TextItem.reasoning(self._next_index())
            self._reasoning.begin(self._report)
        self._reasoning.add(self._report, text, [])

    def _add_text(self, text: str, logprobs: list[JsonObject]) -> None:
        if self._text is None:
            text = self._space + text
            self._space = ""
            if text.isspace():  # models write line breaks before a call
                self._space = text
                return
            self._end_reasoning()
            self._text = TextItem.message(self._next_index())
            self._text.begin(self._report)
        self._text.add(self._report, text, logprobs)

    def _add_calls(self, deltas: list[JsonObject]) -> None:
        self._end_reasoning()
        self._end_text()
        for delta in deltas:
            function = delta.get("function") or {}
            call = self._calls.get(delta["index"])
            if call is None:
                call = self._new_call(delta["id"], function["name"])
                self._calls[delta["index"]] = call
                call.begin(self._report)
            if arguments := function.get("arguments"):
                call.add(self._report, arguments)

    def _tool(self, tool: JsonObject) -> None:
        self._begin({})
        self._close("completed")
        id = tool["id"]
        if tool["type"] == "tool_call.started":
            self._start_call(id, tool["name"], tool["arguments"])
        elif calls := self._running.get(id):
            call = calls.pop(0)
            call.finish(self._report, tool["result"], failed=tool["outcome"] != "ok")
            self._done[call.index] = call.item

    def _start_call(self, id: str, name: str, arguments: str) -> None:
        """Reports a call that the server runs. Clients do not run the calls of MCP servers."""
        label = self._mcp.labels.get(name, (OWN_LABEL, name))
        approval = id if id in self._approved else None
        call = CallItem.of_server(self._next_index(), *label, approval)
        call.begin(self._report)
        call.add(self._report, valid_arguments(arguments))
        call.end_arguments(self._report)
        self._running.setdefault(id, []).append(call)  # engines may give two calls one id

    def _new_call(self, id: str, name: str) -> CallItem:
        """Returns the item of a call that ends the response: for the client, or to be approved by it."""
        if name in self._mcp.approval:
            return CallItem.to_approve(self._next_index(), *self._mcp.labels[name])
        return CallItem.of(self._next_index(), id, name)

    def _end(self, ending: Ending) -> None:
        self._begin(ending.chunk)
        reason = _INCOMPLETE.get(ending.finish_reason)
        self._close("incomplete" if reason else "completed")
        self.answer["usage"] = _usage(ending.usage)
        if reason:
            self._finish("incomplete", incomplete_details={"reason": reason})
        else:
            self._finish("completed", completed_at=int(time.time()))

    def _finish(self, status: str, **fields: Any) -> None:
        output = [self._done[index] for index in sorted(self._done)]
        self.answer |= {"status": status, "output": output, **fields}
        self._report(f"response.{status}", response=self.answer)

    def _close(self, status: str) -> None:
        """Ends the items that are still open. Only the last one can be incomplete."""
        self._space = ""
        self._end_reasoning(status if not (self._text or self._calls) else "completed")
        self._end_text(status)
        for call in self._calls.values():
            call.end(self._report, status)
            self._done[call.index] = call.item
        self._calls = {}

    def _end_reasoning(self, status: str = "completed") -> None:
        if self._reasoning is not None:
            self._reasoning.end(self._report, status)
            self._done[self._reasoning.index] = self._reasoning.item
            self._reasoning = None

    def _end_text(self, status: str = "completed") -> None:
        if self._text is not None:
            self._text.end(self._report, status)
            self._done[self._text.index] = self._text.item
            self._text = None


def _logprobs(tokens: JsonObject | None) -> list[JsonObject]:
    """Returns the log probabilities of a delta's tokens, if the request asked for them."""
    logprobs = (tokens or {}).get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return content if isinstance(content, list) else []


def _usage(usage: JsonObject) -> JsonObject | None:
    if not usage:
        return None
    return {
        "input_tokens": _count(usage, "prompt_tokens"),
        "input_tokens_details": {
            "cached_tokens": _count(usage.get("prompt_tokens_details"), "cached_tokens"),
            "cache_write_tokens": 0,
        },
        "output_tokens": _count(usage, "completion_tokens"),
        "output_tokens_details": {
            "reasoning_tokens": _count(usage.get("completion_tokens_details"), "reasoning_tokens")
        },
        "total_tokens": _count(usage, "total_tokens"),
    }


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if type(value) is int else 0
