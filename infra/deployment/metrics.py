"""The metrics that the orchestrator publishes, and the alarms' thresholds: metrics.json of its sources."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "services/orchestrator/orchestrator/metrics.json"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: its names in CloudWatch and Prometheus, unit, and the statistic that is right for it."""

    name: str
    unit: str
    statistic: str
    prometheus: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """When an alarm is raised: `threshold` is exceeded for `minutes`. `metric` is "" for metrics of AWS."""

    metric: str
    threshold: float
    minutes: int
    summary: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Metrics:
    """Everything that metrics.json says."""

    namespace: str
    dimensions: tuple[str, str]
    metrics: dict[str, Metric]
    alarms: dict[str, Alarm]


@functools.cache
def load_metrics() -> Metrics:
    """Reads metrics.json."""
    data = json.loads(SOURCE.read_text(encoding="utf-8"))
    deployment, model = data["dimensions"]
    return Metrics(
        data["namespace"],
        (deployment, model),
        {one["name"]: Metric(**one) for one in data["metrics"]},
        {name: Alarm(**one) for name, one in data["alarms"].items()},
    )
