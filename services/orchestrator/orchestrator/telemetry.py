"""Metrics and logs. All of their names are defined here."""

from __future__ import annotations

import errno
import logging
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from .collectors import (
    Counts,
    Durations,
    EngineCollector,
    EngineLoad,
    EngineState,
    LoadCollector,
    Totals,
    Watched,
)
from .log_lines import LineHandler, dropped_lines
from .record import Record as Record  # noqa: PLC0414 (chat and engine take it from here)

log = logging.getLogger("orchestrator")

_FIRST_TOKENS = 1000

_BUSY = {"too_many_requests", "engine_unavailable"}
"""Codes of requests that the service or every engine was too busy for."""


class Telemetry:
    """The metrics and the request log of one service.

    Args:
        models: the models, if there are several. Metrics of engines then have the label `model`.
    """

    def __init__(self, *, log_content: bool = False, models: Sequence[str] = ()) -> None:
        self.log_content = log_content
        self._by_model = bool(models)
        by_model = ["model"] if models else []
        self._registry = CollectorRegistry()
        self._requests = Counts("requests", "Requests", ["route", "status", "key_name"])
        self._latency = Durations(
            "request_latency_seconds", "Time until the answer is complete", ["route", "stream"]
        )
        self._tool_calls = Counts("tool_calls", "Tool calls", ["tool_name", "outcome"])
        self._tool_seconds = Durations("tool_call_duration_seconds", "Duration of a tool call", ["tool_name"])
        self._mcp_calls = Counts("mcp_calls", "Calls of MCP servers", ["server", "outcome"])
        self._mcp_seconds = Durations(
            "mcp_call_duration_seconds", "Duration of a call of an MCP server", ["server"]
        )
        self._tokens = Counts("tokens", "Tokens over all rounds", ["kind", "model", "key_name"])
        self._first_token = Durations(
            "time_to_first_token_seconds",
            "Time until the engine's first event, without waiting for an engine to start",
            by_model,
        )
        self._rounds = Durations(
            "tool_rounds",
            "Engine calls per request with server tools",
            [],
            buckets=(1, 2, 3, 4, 6, 8, 12, 16),
        )
        self._engine_seconds = Counts("engine_seconds", "Share of the engines' time", ["model", "key_name"])
        self._rejections = Counts(
            "admission_rejections", "Requests rejected because the service or every engine was busy", by_model
        )
        self._first_tokens: defaultdict[str, deque[float]] | None = None
        self._totals: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])  # as in Totals
        self._retries = Counts("engine_retries", "Requests sent to an engine again after a failure", by_model)
        self._chosen = Counts(
            "engine_affinity", "Requests sent to the engine of their prefix", ["engine", *by_model]
        )
        self._not_accepted = Counts("accept_failures", "Failures to accept connections", ["reason"])
        for model in models:
            self._rejections.add((model,), 0)
            self._retries.add((model,), 0)
        self._register_all()

    def _register_all(self) -> None:
        for collector in (
            self._requests, self._latency, self._tool_calls, self._tool_seconds, self._mcp_calls,
            self._mcp_seconds, self._tokens, self._engine_seconds, self._first_token, self._rounds,
            self._retries, self._not_accepted, self._rejections, self._chosen,
        ):  # fmt: skip
            self._registry.register(collector)
        self._registry.register(
            Watched(
                lambda: CounterMetricFamily(
                    "log_lines_dropped", "Log lines that nobody read in time", value=dropped_lines()
                )
            )
        )

    def watch_tools(self, hung: Callable[[], int]) -> None:
        """Reports the calls of tools that go on although nobody waits for them."""
        documentation = "Tool calls that go on in a thread or task although nobody waits for them"
        self._registry.register(
            Watched(lambda: GaugeMetricFamily("tool_calls_hung", documentation, value=hung()))
        )

    def register(self, collector: Collector) -> None:
        """Reports what the collector finds when /metrics is requested."""
        self._registry.register(collector)

    def watch_engines(self, states: Callable[[], Mapping[str, Iterable[EngineState]]]) -> None:
        self._registry.register(EngineCollector(states))

    def watch_load(self, loads: Callable[[], Mapping[str, EngineLoad]]) -> None:
        self._registry.register(LoadCollector(loads, self.totals))

    def totals(self, models: Iterable[str] | None = None) -> Totals:
        """Returns what was counted for these models: an empty name stands for requests without a model.

        Args:
            models: None for all.
        """
        counted = [self._totals[model] for model in (list(self._totals) if models is None else models)]
        return Totals(*map(sum, zip(*counted, strict=True))) if counted else Totals(0, 0, 0, 0, 0)

    def keep_first_tokens(self) -> None:
        """Keeps the times to first token, until they are taken."""
        self._first_tokens = defaultdict(lambda: deque(maxlen=_FIRST_TOKENS))

    def take_first_tokens(self, model: str = "") -> list[float]:
        """Returns a model's times to first token since the last call, the last ones if there were many."""
        return list(self._first_tokens.pop(model, ())) if self._first_tokens is not None else []

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def engine_retried(self, model: str = "") -> None:
        self._retries.add(self._label(model))

    def engine_chosen(self, model: str, *, at_home: bool) -> None:
        """Counts a choice by the prefix of a request."""
        self._chosen.add(("home" if at_home else "other", *self._label(model)))

    def accept_failed(self, number: int | None) -> None:
        """Counts a failure by the name of its errno."""
        self._not_accepted.add((errno.errorcode.get(number or 0, "unknown"),))

    def tool_called(self, name: str, outcome: str, seconds: float, model: str = "") -> None:
        totals = self._totals[model]
        totals[2] += 1
        totals[3] += outcome != "ok"
        self._tool_calls.add((name, outcome))
        self._tool_seconds.observe((name,), seconds)

    def mcp_called(self, server: str, outcome: str, seconds: float) -> None:
        self._mcp_calls.add((server, outcome))
        self._mcp_seconds.observe((server,), seconds)

    def finished(self, record: Record, *, quiet: bool = False) -> None:
        """Counts a request that has ended and logs it unless `quiet`."""
        seconds = time.monotonic() - record.started
        self._requests.add((record.route, str(record.status), record.key_name))
        self._latency.observe((record.route, "true" if record.stream else "false"), seconds)
        if record.first_token is not None:
            self._first_token.observe(self._label(record.entry), record.first_token)
            if self._first_tokens is not None:
                self._first_tokens[record.entry].append(record.first_token)
        if record.rounds:
            self._rounds.observe((), record.rounds)
        if record.prompt_tokens:
            self._tokens.add(("prompt", record.model, record.key_name), record.prompt_tokens)
        if record.completion_tokens:
            self._tokens.add(("completion", record.model, record.key_name), record.completion_tokens)
        if record.cached_tokens:
            self._tokens.add(("cached", record.model, record.key_name), record.cached_tokens)
        if record.engine_seconds:
            self._engine_seconds.add((record.model, record.key_name), record.engine_seconds)
        totals = self._totals[record.entry]
        totals[0] += record.prompt_tokens
        totals[1] += record.completion_tokens
        if record.error_code in _BUSY:
            totals[4] += 1
            self._rejections.add(self._label(record.entry))
        if not quiet and log.isEnabledFor(logging.INFO):
            log.handle(_line_of(_fields(record, seconds)))

    def _label(self, model: str) -> tuple[str, ...]:
        """Returns the label of a model, which is `-` for requests that have reached none."""
        return (model or "-",) if self._by_model else ()


def _fields(record: Record, seconds: float) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "request_id": record.request_id,
        "route": record.route,
        "status": record.status,
        "key_name": record.key_name,
        "model": record.model,
        "stream": record.stream,
        "seconds": round(seconds, 4),
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens,
    }
    if record.traceparent:
        fields["trace_id"] = record.traceparent[3:35]
    if record.first_token is not None:
        fields["first_token_seconds"] = round(record.first_token, 4)
    if record.held_before:
        fields["held_seconds"] = round(record.held_before, 4)
    if record.rounds:
        fields |= {"rounds": record.rounds, "tools": record.tools}
    if record.hints:
        fields["hints"] = list(record.hints)
    if record.error:
        fields["error"] = record.error
    if record.error_code:
        fields["error_code"] = record.error_code
    return fields


_LINE = logging.makeLogRecord(
    {"name": log.name, "msg": "request", "levelno": logging.INFO, "levelname": "INFO"}
).__dict__


def _line_of(fields: dict[str, Any]) -> logging.LogRecord:
    """Returns the log record of a request. A copy of a prepared one saves 2.5 µs, 6% of a relay."""
    line: logging.LogRecord = logging.LogRecord.__new__(logging.LogRecord)
    line.__dict__ = {**_LINE, "created": time.time(), "fields": fields}
    return line


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time (Unix time), level, logger, message and the extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logging(level: str) -> None:
    """Writes the records of all loggers in the process to standard output as lines of JSON."""
    handler = LineHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # No line shows these, and collecting them is half of a line's cost (logging HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    for noisy in ("httpx", "httpcore", "botocore", "boto3", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
