"""Metrics and logs. All of their names are defined here."""

from __future__ import annotations

import errno
import logging
import sys
import time
from bisect import bisect_left
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


@dataclass(frozen=True, slots=True)
class EngineState:
    """The state of one engine address as /metrics reports it."""

    engine: str
    up: bool
    in_flight: int


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
        if labels not in self._values and len(self._values) >= _LABEL_SETS:
            labels = ("other",) * len(labels)  # an engine may name a new model in each answer
        self._values[labels] = self._values.get(labels, 0) + amount

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
        self._retries = _Counts("engine_retries", "Requests sent to an engine again after a failure", [])
        self._not_accepted = _Counts("accept_failures", "Failures to accept connections", ["reason"])
        for collector in (
            self._requests, self._latency, self._tool_calls, self._tool_seconds, self._tokens,
            self._engine_seconds, self._first_token, self._rounds, self._retries, self._not_accepted,
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

    def watch_engines(self, states: Callable[[], Iterable[EngineState]]) -> None:
        self._registry.register(_EngineCollector(states))

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def engine_retried(self) -> None:
        self._retries.add(())

    def accept_failed(self, number: int | None) -> None:
        """Counts a failure by the name of its errno."""
        self._not_accepted.add((errno.errorcode.get(number or 0, "unknown"),))

    def tool_called(self, name: str, outcome: str, seconds: float) -> None:
        self._tool_calls.add((name, outcome))
        self._tool_seconds.observe((name,), seconds)

    def finished(self, record: Record, *, quiet: bool = False) -> None:
        """Counts a request that has ended and logs it unless `quiet`."""
        seconds = time.monotonic() - record.started
        self._requests.add((record.route, str(record.status), record.key_name))
        self._latency.observe((record.route, "true" if record.stream else "false"), seconds)
        if record.first_token is not None:
            self._first_token.observe((), record.first_token)
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
    if record.first_token is not None:
        fields["first_token_seconds"] = round(record.first_token, 4)
    if record.held_before:
        fields["held_seconds"] = round(record.held_before, 4)
    if record.rounds:
        fields |= {"rounds": record.rounds, "tools": record.tools}
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
