"""Metrics and logs. All of their names are defined here."""

from __future__ import annotations

import errno
import logging
import sys
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .log_lines import LineHandler, dropped_lines
from .record import Record as Record  # noqa: PLC0414 (chat and engine take it from here)

log = logging.getLogger("orchestrator")

_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


_LABEL_SETS = 2000
_FIRST_TOKENS = 1000

_BUSY = {"too_many_requests", "engine_unavailable"}
"""Codes of requests that the service or every engine was too busy for."""


@dataclass(frozen=True, slots=True)
class EngineState:
    """The state of one engine address as /metrics reports it."""

    engine: str
    up: bool
    in_flight: int


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """The load of all engines together, and of the requests that wait for one.

    Attributes:
        requests: requests that engines run or queue.
        up: engines that answer.
        held: requests that wait for an engine now.
        unmet: requests since the service started that ended without an engine.
        kv_cache: share of the KV cache in use, from 0 to 1, of the engine that uses most.
        prefix_queries: tokens of prompts since the service started, and `prefix_hits` those in the cache.
        preemptions: requests that engines interrupted since the service started.
        starts: starts that were measured, and `start_seconds` how long the last one took.
    """

    requests: float = 0.0
    up: int = 0
    held: int = 0
    unmet: int = 0
    kv_cache: float = 0.0
    prefix_queries: float = 0.0
    prefix_hits: float = 0.0
    preemptions: float = 0.0
    starts: int = 0
    start_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """What the service has counted since it started, over all keys, models and tools."""

    tokens_in: float
    tokens_out: float
    tool_calls: float
    tool_errors: float
    rejections: float


class _LoadCollector(Collector):
    """The metrics that metrics.json names, besides those that have labels."""

    def __init__(self, load: Callable[[], EngineLoad], totals: Callable[[], Totals]) -> None:
        self._load = load
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        load, totals = self._load(), self._totals()
        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        yield gauge("engine_demand", "Requests that engines run or queue", value=load.requests)
        yield gauge("held_demand", "Requests that wait for an engine", value=load.held)
        yield gauge("engines_up", "Engines that answer", value=load.up)
        if load.up:
            per_engine = load.requests / load.up
            yield gauge("demand_per_engine", "Requests per engine that answers", value=per_engine)
            yield gauge("kv_cache_use_percent", "Use of the fullest KV cache", value=100 * load.kv_cache)
        if load.prefix_queries:
            hits = 100 * load.prefix_hits / load.prefix_queries
            yield gauge("prefix_hits_percent", "Tokens of prompts found in the prefix cache", value=hits)
        if load.starts:
            yield gauge("engine_start_seconds", "Duration of the last start", value=load.start_seconds)
        yield counter("engine_preemptions", "Requests that engines interrupted", value=load.preemptions)
        yield counter("tool_errors", "Tool calls that failed", value=totals.tool_errors)
        yield counter("tokens_in", "Tokens of prompts", value=totals.tokens_in)
        yield counter("tokens_out", "Generated tokens", value=totals.tokens_out)


class _EngineCollector(Collector):
    """Reads the engines' state when /metrics is requested, so these gauges cost other requests nothing."""

    def __init__(self, states: Callable[[], Iterable[EngineState]]) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("engine_up", "1 if the engine answers, 0 if not", labels=["engine"])
        busy = GaugeMetricFamily(
            "engine_requests_in_flight", "Requests that an engine is serving", labels=["engine"]
        )
        for state in self._states():
            up.add_metric([state.engine], float(state.up))
            busy.add_metric([state.engine], float(state.in_flight))
        yield up
        yield busy


class _Watched(Collector):
    """A single value that is read when /metrics is requested."""

    def __init__(self, read: Callable[[], Metric]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        yield self._read()


class _Counts(Collector):
    """A counter per set of labels.

    It is only used on the event loop and so needs no locks, which make the Prometheus client's own counter
    three times as slow.
    """

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._family = name, documentation, labels
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def add(self, labels: tuple[str, ...], amount: float = 1) -> None:
        try:
            self._values[labels] += amount
        except KeyError:
            if len(self._values) >= _LABEL_SETS:
                labels = ("other",) * len(labels)  # an engine may name a new model in each answer
            self._values[labels] = self._values.get(labels, 0) + amount

    def total(self, wanted: Callable[[tuple[str, ...]], bool] = lambda _: True) -> float:
        """Returns the sum over the wanted labels."""
        return sum(count for labels, count in self._values.items() if wanted(labels))

    def collect(self) -> Iterator[Metric]:
        name, documentation, labels = self._family
        metric = CounterMetricFamily(name, documentation, labels=labels)
        for values, count in self._values.items():
            metric.add_metric(values, count)
        yield metric


class _Durations(Collector):
    """A histogram per set of labels."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, buckets: Sequence[float] = _LATENCY
    ) -> None:
        self._family = name, documentation, labels
        self._bounds = buckets
        # The count of each bucket, the count of values above all of them, and the sum of all values.
        self._series: dict[tuple[str, ...], list[float]] = {}
        if not labels:
            self._series[()] = [0.0] * (len(buckets) + 2)

    def observe(self, labels: tuple[str, ...], value: float) -> None:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = [0.0] * (len(self._bounds) + 2)
        series[bisect_left(self._bounds, value)] += 1
        series[-1] += value

    def collect(self) -> Iterator[Metric]:
        name, documentation, labels = self._family
        metric = HistogramMetricFamily(name, documentation, labels=labels)
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for values, (*counts, total) in self._series.items():
            metric.add_metric(values, list(zip(bounds, accumulate(counts), strict=True)), total)
        yield metric


class Telemetry:
    """The metrics and the request log of one service."""

    def __init__(self, *, log_content: bool = False) -> None:
        self.log_content = log_content
        registry = self._registry = CollectorRegistry()
        self._requests = _Counts("requests", "Requests", ["route", "status", "key_name"])
        self._latency = _Durations(
            "request_latency_seconds", "Time until the answer is complete", ["route", "stream"]
        )
        self._tool_calls = _Counts("tool_calls", "Tool calls", ["tool_name", "outcome"])
        self._tool_seconds = _Durations(
            "tool_call_duration_seconds", "Duration of a tool call", ["tool_name"]
        )
        self._mcp_calls = _Counts("mcp_calls", "Calls of MCP servers", ["server", "outcome"])
        self._mcp_seconds = _Durations(
            "mcp_call_duration_seconds", "Duration of a call of an MCP server", ["server"]
        )
        self._tokens = _Counts("tokens", "Tokens over all rounds", ["kind", "model", "key_name"])
        self._first_token = _Durations(
            "time_to_first_token_seconds",
            "Time until the engine's first event, without waiting for an engine to start",
            [],
        )
        self._rounds = _Durations(
            "tool_rounds",
            "Engine calls per request with server tools",
            [],
            buckets=(1, 2, 3, 4, 6, 8, 12, 16),
        )
        self._engine_seconds = _Counts("engine_seconds", "Share of the engines' time", ["model", "key_name"])
        self._rejections = _Counts(
            "admission_rejections", "Requests rejected because the service or every engine was busy", []
        )
        self._first_tokens: deque[float] | None = None
        self._retries = _Counts("engine_retries", "Requests sent to an engine again after a failure", [])
        self._chosen = _Counts("engine_affinity", "Requests sent to the engine of their prefix", ["engine"])
        self._not_accepted = _Counts("accept_failures", "Failures to accept connections", ["reason"])
        for collector in (
            self._requests, self._latency, self._tool_calls, self._tool_seconds, self._mcp_calls,
            self._mcp_seconds, self._tokens, self._engine_seconds, self._first_token, self._rounds,
            self._retries, self._not_accepted, self._rejections, self._chosen,
        ):  # fmt: skip
            registry.register(collector)
        registry.register(
            _Watched(
                lambda: CounterMetricFamily(
                    "log_lines_dropped", "Log lines that nobody read in time", value=dropped_lines()
                )
            )
        )

    def watch_tools(self, hung: Callable[[], int]) -> None:
        """Reports the calls of tools that go on although nobody waits for them."""
        documentation = "Tool calls that go on in a thread or task although nobody waits for them"
        self._registry.register(
            _Watched(lambda: GaugeMetricFamily("tool_calls_hung", documentation, value=hung()))
        )

    def register(self, collector: Collector) -> None:
        """Reports what the collector finds when /metrics is requested."""
        self._registry.register(collector)

    def watch_engines(self, states: Callable[[], Iterable[EngineState]]) -> None:
        self._registry.register(_EngineCollector(states))

    def watch_load(self, load: Callable[[], EngineLoad]) -> None:
        self._registry.register(_LoadCollector(load, self.totals))

    def totals(self) -> Totals:
        return Totals(
            self._tokens.total(lambda labels: labels[0] == "prompt"),
            self._tokens.total(lambda labels: labels[0] == "completion"),
            self._tool_calls.total(),
            self._tool_calls.total(lambda labels: labels[1] != "ok"),
            self._rejections.total(),
        )

    def keep_first_tokens(self) -> None:
        """Keeps the times to first token, until they are taken."""
        self._first_tokens = deque(maxlen=_FIRST_TOKENS)

    def take_first_tokens(self) -> list[float]:
        """Returns the times to first token since the last call, the last ones if there were many."""
        kept, self._first_tokens = self._first_tokens, deque(maxlen=_FIRST_TOKENS)
        return list(kept or ())

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def engine_retried(self) -> None:
        self._retries.add(())

    def engine_chosen(self, *, at_home: bool) -> None:
        """Counts a choice by the prefix of a request."""
        self._chosen.add(("home" if at_home else "other",))

    def accept_failed(self, number: int | None) -> None:
        """Counts a failure by the name of its errno."""
        self._not_accepted.add((errno.errorcode.get(number or 0, "unknown"),))

    def tool_called(self, name: str, outcome: str, seconds: float) -> None:
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
            self._first_token.observe((), record.first_token)
            if self._first_tokens is not None:
                self._first_tokens.append(record.first_token)
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
        if record.error_code in _BUSY:
            self._rejections.add(())
        if not quiet and log.isEnabledFor(logging.INFO):
            log.handle(_RequestLine(_fields(record, seconds)))


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


class _RequestLine(logging.LogRecord):
    """The log record of a request. Copying a prepared record saves 2.5 µs over `log.info`, 6% of a relay."""

    _COMMON = logging.makeLogRecord(
        {"name": log.name, "msg": "request", "levelno": logging.INFO, "levelname": "INFO"}
    ).__dict__

    def __init__(self, fields: dict[str, Any]) -> None:
        self.__dict__.update(self._COMMON, created=time.time(), fields=fields)


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
