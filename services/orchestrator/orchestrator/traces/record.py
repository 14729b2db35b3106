"""The record of a request whose steps become spans, named by the GenAI conventions of OpenTelemetry.

- `POST ROUTE`: the whole request.
- `invoke_agent tandem`: the rounds of a request with server tools.
- `chat MODEL` (and its like): one request to an engine, with its tokens. Each attempt is one.
- `execute_tool NAME`: one call of a tool, also of one on an MCP server.
- `wait_for_engine`: the time until an engine is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..record import Record, Result, Tools
from .content import input_messages, output_messages, text_of_answer
from .span import Kind, Parent, Span, Trace, parse_parent

SPANS_AT_MOST = 512
_FAILURES_AT_MOST = 8
_NAME_AT_MOST = 256

_OPERATIONS = {
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/messages/count_tokens": "count_tokens",
    "/v1/audio/transcriptions": "speech_to_text",
    "/v1/audio/translations": "speech_to_text",
}
_NUMBERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "n": "gen_ai.request.choice.count",
    "seed": "gen_ai.request.seed",
}


class TracedRecord(Record):
    """A record that notes the steps of its request.

    Args:
        record: the record of the request so far.
        method: the request's HTTP method.
        parent: the span of the client, if it sent one.
        trace_id: the id of the trace, which is the client's if it sent one.
        content_limit: maximum length of each message, in characters; 0 leaves messages out.
        offer: takes the spans when the request ends, and the number of those that were left out.
    """

    __slots__ = (
        "_agent", "_answer", "_answer_size", "_attempt", "_content_limit", "_failures", "_lost", "_offer",
        "_request", "_root", "_trace", "_wait",
    )  # fmt: skip

    def __init__(
        self,
        record: Record,
        method: str,
        parent: Parent | None,
        *,
        trace_id: str,
        content_limit: int,
        offer: Callable[[Trace, int], None],
    ) -> None:
        super().__init__(record.request_id, record.route, record.started, tracestate=record.tracestate)
        root = self._root = Span(
            f"{method} {record.route}",
            Kind.SERVER,
            parent.span_id if parent else "",
            {
                "http.request.method": method,
                "http.route": record.route,
                "tandem.request_id": record.request_id,
            },
        )
        self._trace = Trace(trace_id, record.tracestate, [root])
        self.traceparent = self._trace.traceparent(root)
        self._content_limit = content_limit
        self._offer = offer
        self._agent: Span | None = None
        self._attempt: Span | None = None
        self._wait: Span | None = None
        self._failures = 0
        self._lost = 0
        self._request: dict[str, Any] = {}
        self._answer: list[bytes] = []
        self._answer_size = 0

    @property
    def traced(self) -> bool:
        return True

    @property
    def identity(self) -> str:
        """The header lines that identify the request to an engine; the span of the attempt is the parent."""
        span = self._attempt or self._root
        state = f"tracestate: {self.tracestate}\r\n" if self.tracestate else ""
        return f"X-Request-Id: {self.request_id}\r\ntraceparent: {self._trace.traceparent(span)}\r\n{state}"

    def adopt(self, traceparent: str, tracestate: str) -> None:
        parent = parse_parent(traceparent)
        if parent is None or self._root.parent_id or len(self._trace.spans) > 1:
            return  # a header names the span that this request belongs to
        self._trace.id, self._root.parent_id = parent.trace_id, parent.span_id
        self._trace.state = self.tracestate = tracestate
        self.traceparent = self._trace.traceparent(self._root)

    def saw_request(self, payload: dict[str, Any]) -> None:
        found = self._request
        model = payload.get("model")
        if isinstance(model, str):
            found["gen_ai.request.model"] = model[:_NAME_AT_MOST]
        for name, attribute in _NUMBERS.items():
            value = payload.get(name)
            if type(value) is float or (type(value) is int and -(2**63) <= value < 2**63):
                found[attribute] = value
        if payload.get("stream") is True:
            found["gen_ai.request.stream"] = True
        if self._content_limit:
            found["gen_ai.input.messages"] = input_messages(payload, self._content_limit)

    def ask(self, size: int, address: str = "") -> None:
        if self._attempt is not None:
            self._end_attempt("incomplete")
        super().ask(size, address)
        if self.rounds and self._agent is None:
            self._agent = self._start(
                "invoke_agent tandem",
                attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "tandem"},
            )
        operation = _OPERATIONS.get(self.route, "chat")
        span = self._attempt = self._start(
            operation,
            Kind.CLIENT,
            {"gen_ai.operation.name": operation, "gen_ai.provider.name": "vllm", **self._request},
        )
        if address:
            host, _, port = address.rpartition(":")
            span.attributes["server.address"] = host.strip("[]")
            span.attributes["server.port"] = int(port)
        if self.rounds:
            span.attributes["tandem.round"] = self.rounds

    def answered(self) -> None:
        super().answered()
        self._end_attempt(self._error)

    def attempt_failed(self, reason: str) -> None:
        self._failures += 1
        self._end_attempt(reason)

    def saw_first_token(self) -> None:
        super().saw_first_token()
        self._wait = None
        span = self._attempt
        if span is not None and self.stream:
            seconds = (time.time_ns() - span.start) / 1e9
            span.attributes["gen_ai.response.time_to_first_chunk"] = round(max(seconds, 0.0), 6)

    def count_tokens(self, usage: dict[str, Any] | None) -> None:
        before = self.prompt_tokens, self.completion_tokens, self.cached_tokens
        super().count_tokens(usage)
        if self._attempt is not None and usage:
            found = self._attempt.attributes
            found["gen_ai.usage.input_tokens"] = self.prompt_tokens - before[0]
            found["gen_ai.usage.output_tokens"] = self.completion_tokens - before[1]
            if cached := self.cached_tokens - before[2]:
                found["gen_ai.usage.cache_read.input_tokens"] = cached

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        # Turns of waiting for a busy engine are a few milliseconds each, and one step.
        span = self._wait = self._wait or self._start("wait_for_engine")
        span.end = 0
        try:
            with super().hold():
                yield
        except BaseException as error:
            span.finish(_error_type(error))
            raise
        finally:
            span.finish()

    async def run_tool(self, tools: Tools[Result], name: str, arguments: Any, call_id: str = "") -> Result:
        span = self._start(f"execute_tool {name[:_NAME_AT_MOST]}", attributes=_tool_attributes(name, call_id))
        if tools.remote(name) is not None:
            # The conventions for MCP want one span per call, so this one is also the client's.
            span.kind = Kind.CLIENT
            span.attributes["mcp.method.name"] = "tools/call"
        try:
            result = await tools.call(
                name,
                arguments,
                request_id=self.request_id,
                traceparent=self._trace.traceparent(span),
                tracestate=self.tracestate,
            )
        except BaseException as error:
            span.finish(_error_type(error))
            raise
        if self._content_limit:
            span.attributes["gen_ai.tool.call.arguments"] = result.arguments[: self._content_limit]
            span.attributes["gen_ai.tool.call.result"] = result.content[: self._content_limit]
        span.finish(None if result.outcome == "ok" else result.outcome)
        return result

    def saw_answer(self, data: bytes) -> None:
        room = 4 * self._content_limit - self._answer_size  # events are longer than the text in them
        if room > 0:
            self._answer.append(data[:room])
            self._answer_size += len(data)

    def saw_turn(self, text: str, calls: Sequence[tuple[str, str, str]], finish_reason: str) -> None:
        if self._attempt is None:
            return
        found = self._attempt.attributes
        found["gen_ai.response.finish_reasons"] = [finish_reason[:_NAME_AT_MOST]]
        if self._content_limit:
            found["gen_ai.output.messages"] = output_messages(text, calls, finish_reason, self._content_limit)

    def end_trace(self) -> None:
        error = self._error
        self._end_attempt(error)
        root = self._root
        found = root.attributes
        found["http.response.status_code"] = self.status
        if self.key_name != "-":
            found["tandem.key_name"] = self.key_name
        if self._agent is not None:
            self._agent.attributes["gen_ai.usage.input_tokens"] = self.prompt_tokens
            self._agent.attributes["gen_ai.usage.output_tokens"] = self.completion_tokens
            self._agent.attributes["tandem.rounds"] = self.rounds
        for span in reversed(self._trace.spans[1:]):  # a parent ends last
            span.finish(error or ("cancelled" if span is not self._agent else None))
        # The conventions: a server is not at fault for what its client did.
        root.finish(error if self.status >= 500 else None)
        if error and self.status < 500:
            found["error.type"] = error
        self._offer(self._trace, self._lost)

    @property
    def _error(self) -> str | None:
        if self.status == 499:
            return "cancelled"
        if self.error_code and self.error_code != "None":
            return self.error_code
        return str(self.status or "error") if self.error else None

    def _start(self, name: str, kind: Kind = Kind.INTERNAL, attributes: dict[str, Any] | None = None) -> Span:
        span = Span(name, kind, (self._agent or self._root).id, attributes or {})
        if len(self._trace.spans) < SPANS_AT_MOST:
            self._trace.spans.append(span)
        else:
            self._lost += 1
        return span

    def _end_attempt(self, error: str | None) -> None:
        span, self._attempt = self._attempt, None
        if span is None:
            return
        if self.model != "-":
            span.attributes["gen_ai.response.model"] = self.model
        asked_for = self.model if self.model != "-" else self._request.get("gen_ai.request.model", "")
        span.name = f"{span.name} {asked_for}".rstrip()
        if self._answer:
            text = text_of_answer(b"".join(self._answer))
            self._answer = []
            span.attributes["gen_ai.output.messages"] = output_messages(text, (), "", self._content_limit)
        span.finish(error)
        self._request.pop("gen_ai.input.messages", None)  # one attempt shows them
        if error and self._failures > _FAILURES_AT_MOST and self._trace.spans[-1] is span:
            self._trace.spans.pop()  # a stream may ask a busy engine for minutes
            self._lost += 1


def _tool_attributes(name: str, call_id: str) -> dict[str, Any]:
    found = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name[:_NAME_AT_MOST],
        "gen_ai.tool.type": "function",
    }
    if call_id:
        found["gen_ai.tool.call.id"] = call_id[:_NAME_AT_MOST]
    return found


def _error_type(error: BaseException) -> str:
    return "cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__
