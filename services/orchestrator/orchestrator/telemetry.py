"""Metrics and logs: the one place that names them."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

log = logging.getLogger("orchestrator")

_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


@dataclass(slots=True)
class Record:
    """What is known of one request; filled while it runs, told once at its end."""

    request_id: str
    route: str
    started: float = field(default_factory=time.monotonic)
    stream: bool = False
    key_name: str = "-"
    model: str = "-"
    status: int = 0
    error: str | None = None
    rounds: int = 0
    tools: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token: float | None = None

    def saw_first_token(self) -> None:
        if self.first_token is None:
            self.first_token = time.monotonic() - self.started

    def count_tokens(self, usage: dict[str, Any] | None) -> None:
        if usage:
            self.prompt_tokens += usage.get("prompt_tokens") or usage.get("input_tokens") or 0
            self.completion_tokens += usage.get("completion_tokens") or usage.get("output_tokens") or 0


@dataclass(frozen=True, slots=True)
class EngineState:
    """One engine address as /metrics tells it."""

    engine: str
    up: bool
    in_flight: int


class _EngineCollector(Collector):
    """Reads the engines when /metrics is asked, so that a request pays nothing for these gauges."""

    def __init__(self, states: Callable[[], Iterable[EngineState]]) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("engine_up", "1 where the engine answers", labels=["engine"])
        busy = GaugeMetricFamily(
            "engine_requests_in_flight", "Requests under way on an engine", labels=["engine"]
        )
        for state in self._states():
            up.add_metric([state.engine], float(state.up))
            busy.add_metric([state.engine], float(state.in_flight))
        yield up
        yield busy


class Telemetry:
    """The metrics of one service and its log."""

    def __init__(self, *, log_content: bool = False) -> None:
        self.log_content = log_content
        registry = self._registry = CollectorRegistry()
        requests = Counter("requests", "Requests", ["route", "status", "key_name"], registry=registry)
        latency = Histogram(
            "request_latency_seconds", "Time to the whole answer", ["route", "stream"],
            buckets=_LATENCY, registry=registry,
        )  # fmt: skip
        tool_calls = Counter("tool_calls", "Tool calls", ["tool_name", "outcome"], registry=registry)
        tool_seconds = Histogram(
            "tool_call_duration_seconds", "Time of a tool call", ["tool_name"],
            buckets=_LATENCY, registry=registry,
        )  # fmt: skip
        tokens = Counter(
            "tokens", "Tokens, over all rounds", ["kind", "model", "key_name"], registry=registry
        )
        self._first_token = Histogram(
            "time_to_first_token_seconds", "Time to the engine's first event",
            buckets=_LATENCY, registry=registry,
        )  # fmt: skip
        self._rounds = Histogram(
            "tool_rounds", "Engine calls a request with server tools",
            buckets=(1, 2, 3, 4, 6, 8, 12, 16), registry=registry,
        )  # fmt: skip
        self._retries = Counter("engine_retries", "Requests sent to an engine again", registry=registry)
        # A kept child costs half of what labels() costs on every request.
        cache = lru_cache(maxsize=4096)
        self._requests = cache(requests.labels)
        self._latency = cache(latency.labels)
        self._tool_calls = cache(tool_calls.labels)
        self._tool_seconds = cache(tool_seconds.labels)
        self._tokens = cache(tokens.labels)

    def watch_engines(self, states: Callable[[], Iterable[EngineState]]) -> None:
        self._registry.register(_EngineCollector(states))

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def engine_retried(self) -> None:
        self._retries.inc()

    def tool_called(self, name: str, outcome: str, seconds: float) -> None:
        self._tool_calls(name, outcome).inc()
        self._tool_seconds(name).observe(seconds)

    def finished(self, record: Record, *, quiet: bool = False) -> None:
        """Counts a request that has ended, and logs it unless `quiet`."""
        seconds = time.monotonic() - record.started
        self._requests(record.route, str(record.status), record.key_name).inc()
        self._latency(record.route, "true" if record.stream else "false").observe(seconds)
        if record.first_token is not None:
            self._first_token.observe(record.first_token)
        if record.rounds:
            self._rounds.observe(record.rounds)
        if record.prompt_tokens:
            self._tokens("prompt", record.model, record.key_name).inc(record.prompt_tokens)
        if record.completion_tokens:
            self._tokens("completion", record.model, record.key_name).inc(record.completion_tokens)
        if not quiet and log.isEnabledFor(logging.INFO):
            log.info("request", extra={"fields": _fields(record, seconds)})


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
    if record.rounds:
        fields |= {"rounds": record.rounds, "tools": record.tools}
    if record.error:
        fields["error"] = record.error
    return fields


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (seconds since 1970), level, logger, message, and the fields given."""

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
    """Sends every logger of the process to standard output as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "botocore", "boto3", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
