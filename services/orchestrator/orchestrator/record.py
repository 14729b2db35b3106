"""What is known about one request, and how the engines' time is divided among requests."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar


class EngineTime:
    """Divides the engines' time among the requests that they serve together.

    A clock advances by the time that each request in flight gets, so a request's share is what the clock
    advances while the request runs, and all shares together are the time in which any request ran.

    Attributes:
        engines: engines per process that sends requests to them.
    """

    def __init__(self) -> None:
        self.engines = 1.0
        self._requests = 0
        self._clock = self._at = 0.0

    def enter(self, now: float) -> float:
        """Begins a request, and returns the clock."""
        self._advance(now)
        self._requests += 1
        return self._clock

    def leave(self, begun: float, now: float) -> float:
        """Ends a request that began at this clock, and returns its share in seconds."""
        self._advance(now)
        self._requests -= 1
        return self._clock - begun

    def _advance(self, now: float) -> None:
        if self._requests:
            self._clock += (now - self._at) * min(1.0, self.engines / self._requests)
        self._at = now


engine_time = EngineTime()


class CallResult(Protocol):
    """What a record notes of a tool call."""

    @property
    def content(self) -> str: ...

    @property
    def outcome(self) -> str: ...

    @property
    def arguments(self) -> str: ...


Result = TypeVar("Result", bound=CallResult)
Result_co = TypeVar("Result_co", bound=CallResult, covariant=True)


class Tools(Protocol[Result_co]):
    """Runs tools by name."""

    def call(
        self, name: str, arguments: Any, *, request_id: str, traceparent: str, tracestate: str
    ) -> Coroutine[Any, Any, Result_co]: ...

    def remote(self, name: str) -> object | None: ...


@dataclass(slots=True)
class Record:
    """What is known about one request: filled while it runs, reported once when it ends.

    `traces.record.TracedRecord` also notes the steps of the request. Only it has a use for what the methods
    `saw_request`, `saw_answer`, `saw_turn`, `attempt_failed` and `end_trace` are given.

    Attributes:
        traceparent, tracestate: the client's trace context (W3C Trace Context), empty if it sent none.
        hints: what the client probably did not mean.
        permitted_tools: names of the server's tools that the request's key may use. None: all of them.
        events: events that the engine has sent since it was asked last.
        unreported_bytes, unreported_seconds: size of the request that an engine has not reported the tokens
            of, and how long it took.
        reported_bytes, answer_seconds: the same of all requests whose tokens were reported.
        engine_seconds: share of the engines' time; see `EngineTime`.
        entry: the model whose engines serve the request, empty if there is only one or none is known yet.
        clock: the time of these engines.
        may_wait: whether the request waits if no engine can take it. If not, another model takes it.
    """

    request_id: str
    route: str
    started: float = field(default_factory=time.monotonic)
    stream: bool = False
    key_name: str = "-"
    model: str = "-"
    status: int = 0
    error: str | None = None
    error_code: str | None = None
    rounds: int = 0
    tools: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    first_token: float | None = None
    traceparent: str = ""
    tracestate: str = ""
    hints: Sequence[str] = ()
    held_since: float | None = None
    held_before: float = 0.0
    permitted_tools: frozenset[str] | None = None
    events: int = 0
    unreported_bytes: int = 0
    unreported_seconds: float = 0.0
    reported_bytes: int = 0
    answer_seconds: float = 0.0
    engine_seconds: float = 0.0
    entry: str = ""
    clock: EngineTime = engine_time
    may_wait: bool = True
    _asked: float | None = None
    _share: float = 0.0

    @property
    def traced(self) -> bool:
        """Whether the steps of the request are noted."""
        return False

    @property
    def identity(self) -> str:
        """The header lines that identify the request to an engine: its id and its trace context."""
        lines = f"X-Request-Id: {self.request_id}\r\n" if self.request_id else ""
        for name, value in (("traceparent", self.traceparent), ("tracestate", self.tracestate)):
            if value:
                lines += f"{name}: {value}\r\n"
        return lines

    @property
    def held_seconds(self) -> float:
        """How long the request has waited for an engine to start. Its deadline is later by that time."""
        if self.held_since is None:
            return self.held_before
        return self.held_before + time.monotonic() - self.held_since

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Counts the time inside as waiting for an engine."""
        self.held_since = time.monotonic()
        try:
            yield
        finally:
            self.held_before, self.held_since = self.held_seconds, None

    def run_tool(
        self,
        tools: Tools[Result],
        name: str,
        arguments: Any,
        call_id: str = "",  # noqa: ARG002
    ) -> Coroutine[Any, Any, Result]:
        """Runs a tool, which gets the request's id and trace context."""
        return tools.call(
            name,
            arguments,
            request_id=self.request_id,
            traceparent=self.traceparent,
            tracestate=self.tracestate,
        )

    def adopt(self, traceparent: str, tracestate: str) -> None:
        """Takes a trace context from the body of the request."""
        self.traceparent, self.tracestate = traceparent, tracestate

    def saw_request(self, payload: dict[str, Any]) -> None:
        """Notes the client's request."""

    def saw_answer(self, data: bytes) -> None:
        """Notes a part of an answer that is relayed."""

    def saw_turn(self, text: str, calls: Sequence[tuple[str, str, str]], finish_reason: str) -> None:
        """Notes a turn of the model: its text, and the id, name and arguments of each call."""

    def attempt_failed(self, reason: str) -> None:
        """Notes why the engine that was asked last does not answer."""

    def end_trace(self) -> None:
        """Ends the steps of a request that has ended."""

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def ask(self, size: int, address: str = "") -> None:  # noqa: ARG002
        """Notes that an engine is sent a request with a body of this size, and that it is the only one."""
        if self._asked is not None:
            self.answered()
        self.unreported_bytes, self.unreported_seconds, self.events = size, 0.0, 0
        self._asked = now = time.monotonic()
        self._share = self.clock.enter(now)

    def answered(self) -> None:
        """Notes that the engine has ended its answer, or that nobody waits for it any longer."""
        if self._asked is None:
            return
        now = time.monotonic()
        self.engine_seconds += self.clock.leave(self._share, now)
        if self.unreported_bytes:
            self.unreported_seconds = now - self._asked
        else:
            self.answer_seconds += now - self._asked
        self._asked = None

    def rejected(self) -> None:
        """Notes that the engine has not worked for the request that it was sent."""
        if self._asked is not None:
            self.answered()
        self.unreported_bytes = 0

    def saw_first_token(self) -> None:
        if self.first_token is None:
            self.first_token = time.monotonic() - self.started - self.held_before

    def count_tokens(self, usage: dict[str, Any] | None) -> None:
        """Adds the tokens that an engine has reported."""
        if usage:
            self.prompt_tokens += _count(usage.get("prompt_tokens") or usage.get("input_tokens"))
            cached = _count(usage.get("cache_read_input_tokens"))  # Anthropic counts it beside the others
            self.cached_tokens += cached
            self.prompt_tokens += cached + _count(usage.get("cache_creation_input_tokens"))
            self.completion_tokens += _count(usage.get("completion_tokens") or usage.get("output_tokens"))
            details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
            if isinstance(details, dict):
                self.cached_tokens += _count(details.get("cached_tokens"))
            self.reported_bytes += self.unreported_bytes
            self.unreported_bytes = 0


def _count(value: Any) -> int:
    """Returns an engine's count, 0 if it is not one."""
    return value if type(value) is int and 0 <= value < 2**53 else 0
