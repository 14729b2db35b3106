"""How metrics are counted, and collected for /metrics. Their names are in telemetry.py."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_LABEL_SETS = 2000


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


class LoadCollector(Collector):
    """The metrics that metrics.json names, besides those that have other labels.

    Args:
        loads: returns the load of each model's engines; the name is empty if there is only one.
    """

    def __init__(self, loads: Callable[[], Mapping[str, EngineLoad]], totals: Callable[[], Totals]) -> None:
        self._loads = loads
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        loads, totals = self._loads(), self._totals()
        labels = [] if "" in loads else ["model"]

        def family(
            kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
            name: str,
            documentation: str,
            value: Callable[[EngineLoad], float | None],
        ) -> Iterator[Metric]:
            metric = kind(name, documentation, labels=labels)
            for model, load in loads.items():
                if (found := value(load)) is not None:
                    metric.add_metric([model] if labels else [], found)
            if metric.samples:
                yield metric

        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        for kind, name, documentation, value in _LOADS:
            yield from family(gauge if kind == "gauge" else counter, name, documentation, value)
        yield counter("tool_errors", "Tool calls that failed", value=totals.tool_errors)
        yield counter("tokens_in", "Tokens of prompts", value=totals.tokens_in)
        yield counter("tokens_out", "Generated tokens", value=totals.tokens_out)


def _hits(load: EngineLoad) -> float | None:
    return 100 * load.prefix_hits / load.prefix_queries if load.prefix_queries else None


_LOADS: tuple[tuple[str, str, str, Callable[[EngineLoad], float | None]], ...] = (
    ("gauge", "engine_demand", "Requests that engines run or queue", lambda load: load.requests),
    ("gauge", "held_demand", "Requests that wait for an engine", lambda load: load.held),
    ("gauge", "engines_up", "Engines that answer", lambda load: load.up),
    (
        "gauge",
        "demand_per_engine",
        "Requests per engine that answers",
        lambda load: load.requests / load.up if load.up else None,
    ),
    (
        "gauge",
        "kv_cache_use_percent",
        "Use of the fullest KV cache",
        lambda load: 100 * load.kv_cache if load.up else None,
    ),
    ("gauge", "prefix_hits_percent", "Tokens of prompts found in the prefix cache", _hits),
    (
        "gauge",
        "engine_start_seconds",
        "Duration of the last start",
        lambda load: load.start_seconds if load.starts else None,
    ),
    ("counter", "engine_preemptions", "Requests that engines interrupted", lambda load: load.preemptions),
)


class EngineCollector(Collector):
    """Reads the engines' state when /metrics is requested, so these gauges cost other requests nothing.

    Args:
        states: returns the states of each model's engines; the name is empty if there is only one.
    """

    def __init__(self, states: Callable[[], Mapping[str, Iterable[EngineState]]]) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        states = self._states()
        labels = ["engine"] if "" in states else ["engine", "model"]
        up = GaugeMetricFamily("engine_up", "1 if the engine answers, 0 if not", labels=labels)
        busy = GaugeMetricFamily(
            "engine_requests_in_flight", "Requests that an engine is serving", labels=labels
        )
        for model, its in states.items():
            for state in its:
                values = [state.engine, model][: len(labels)]
                up.add_metric(values, float(state.up))
                busy.add_metric(values, float(state.in_flight))
        yield up
        yield busy


class Watched(Collector):
    """A single value that is read when /metrics is requested."""

    def __init__(self, read: Callable[[], Metric]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        yield self._read()


class Counts(Collector):
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

    def collect(self) -> Iterator[Metric]:
        name, documentation, labels = self._family
        metric = CounterMetricFamily(name, documentation, labels=labels)
        for values, count in self._values.items():
            metric.add_metric(values, count)
        yield metric


class Durations(Collector):
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
