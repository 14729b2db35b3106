"""CloudWatch: metrics that arrive late, and alarms by its documented rules of evaluation.

Sources: "Alarm evaluation" and "Configuring how CloudWatch alarms treat missing data" in its user guide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from .metric_math import evaluate
from .resources import Alarm, Metric

State = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]

REPEAT_SECONDS = 60
"""An alarm calls a scaling policy again every minute for as long as it lasts."""

_EXTRA_PERIODS = 2
"""More periods than EvaluationPeriods are read, in case some have no data: 5 for 3 in the guide's example."""

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}
_STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "Maximum": max,
    "Minimum": min,
    "Sum": sum,
    "Average": lambda values: sum(values) / len(values),
    "SampleCount": len,
}


class Metrics:
    """The metrics of one deployment. A value can be read `delay` seconds after its time.

    Args:
        resolution: the seconds that values are stored by; shorter periods do not exist.
    """

    def __init__(self, *, delay: float, resolution: int = 10) -> None:
        self._delay = delay
        self._resolution = resolution
        self._values: dict[tuple[str, int], list[float]] = defaultdict(list)
        self._arrivals: dict[tuple[str, int], list[float]] = defaultdict(list)

    def put(self, name: str, value: float, at: float) -> None:
        """Publishes a value."""
        key = name, int(at // self._resolution)
        self._values[key].append(value)
        self._arrivals[key].append(at + self._delay)

    def read(self, metric: Metric, start: int, now: float) -> float | None:
        """Returns the statistic of the period that begins at `start`, of what has arrived by `now`."""
        values: list[float] = []
        for slot in range(start // self._resolution, (start + metric.period) // self._resolution):
            key = metric.name, slot
            arrivals = self._arrivals.get(key)
            if arrivals:
                found = self._values[key]
                values += (
                    found
                    if arrivals[-1] <= now
                    else [value for value, arrival in zip(found, arrivals, strict=True) if arrival <= now]
                )
        return _STATISTICS[metric.statistic](values) if values else None


@dataclass
class Watched:
    """An alarm and its state.

    Attributes:
        value: the newest value that the state is based on.
    """

    alarm: Alarm
    state: State = "OK"
    value: float = 0.0
    called: float = field(default=float("-inf"))
    changes: int = 0

    @property
    def interval(self) -> int:
        """The seconds between two evaluations: the period, but at most a minute."""
        return min(self.alarm.period, 60)

    def evaluate(self, metrics: Metrics, now: float) -> bool:
        """Evaluates the alarm, which is due. Returns whether it calls its policies."""
        alarm = self.alarm
        last = int(now // alarm.period) * alarm.period - alarm.period  # the last period that has ended
        starts = range(last - (alarm.periods + _EXTRA_PERIODS - 1) * alarm.period, last + 1, alarm.period)
        values = [self._value(metrics, start, now) for start in starts]
        state = self._state(values)
        known = [value for value in values if value is not None]
        self.value = known[-1] if known else self.value
        if state != self.state:
            self.state = state
            self.changes += 1
            self.called = float("-inf")
        calls = state == "ALARM" and now - self.called >= REPEAT_SECONDS
        if calls:
            self.called = now
        return calls

    def _value(self, metrics: Metrics, start: int, now: float) -> float | None:
        read = {name: metrics.read(metric, start, now) for name, metric in self.alarm.metrics.items()}
        return evaluate(self.alarm.expression, read)

    def _state(self, values: list[float | None]) -> State:
        """Returns the state by the values of the evaluation range, the newest last."""
        alarm = self.alarm
        breaching = [None if value is None else self._breaches(value) for value in values]
        known = [one for one in breaching if one is not None]
        if not known:
            return self._without_data()
        if len(known) >= alarm.periods:
            considered = known[-alarm.periods :]  # what is missing is ignored if there is enough else
        elif alarm.missing in ("breaching", "notBreaching"):
            fill = alarm.missing == "breaching"
            considered = [*known, *[fill] * (alarm.periods - len(known))]
        else:
            breaching_state: State = "ALARM" if alarm.missing == "missing" else self.state
            return breaching_state if all(known) else "OK"
        return "ALARM" if sum(considered) >= alarm.points_to_alarm else "OK"

    def _without_data(self) -> State:
        states: dict[str, State] = {
            "breaching": "ALARM",
            "notBreaching": "OK",
            "missing": "INSUFFICIENT_DATA",
            "ignore": self.state,
        }
        return states[self.alarm.missing]

    def _breaches(self, value: float) -> bool:
        return _COMPARISONS[self.alarm.comparison](value, self.alarm.threshold)
