"""Alarms, by the rules and the table of examples in CloudWatch's user guide."""

from __future__ import annotations

import pytest

from bench.scaling.cloudwatch import Metrics, Watched
from bench.scaling.resources import Alarm, Metric


def alarm(*, missing: str, periods: int = 3, points: int = 3, seconds: int = 60) -> Alarm:
    metrics = {"m": Metric("Demand", "Maximum", seconds)}
    comparison = "GreaterThanOrEqualToThreshold"
    return Alarm("alarm", "m", metrics, periods, points, 1.0, comparison, missing, ("policy",))


ROWS = {  # five periods, the oldest first: 0 is fine, X breaches, - is missing
    "0-X-X": ("OK", "OK", "OK", "OK"),
    "----0": ("OK", "OK", "OK", "OK"),
    "-----": ("INSUFFICIENT_DATA", "ALARM", "ALARM", "OK"),
    "0XX-X": ("ALARM", "ALARM", "ALARM", "ALARM"),
    "--X--": ("ALARM", "ALARM", "ALARM", "OK"),
}
"""The guide's table of three out of three, for an alarm whose state was ALARM."""


@pytest.mark.parametrize("points", ROWS)
def test_state_follows_the_table_of_the_guide(points: str) -> None:
    for missing, state in zip(("missing", "ignore", "breaching", "notBreaching"), ROWS[points], strict=True):
        metrics = Metrics(delay=0)
        for minute, point in enumerate(points):
            if point != "-":
                metrics.put("Demand", float(point == "X"), minute * 60)
        watched = Watched(alarm(missing=missing), state="ALARM")
        watched.evaluate(metrics, 5 * 60)
        assert watched.state == state, missing


def test_late_value_is_read_when_it_has_arrived() -> None:
    metrics = Metrics(delay=15)
    metrics.put("Demand", 1.0, 3)
    watched = Watched(alarm(missing="notBreaching", periods=1, points=1, seconds=10))
    assert not watched.evaluate(metrics, 10)
    assert watched.evaluate(metrics, 20)
    assert watched.state == "ALARM"


def test_alarm_calls_its_policies_every_minute_while_it_lasts() -> None:
    metrics = Metrics(delay=0)
    watched = Watched(alarm(missing="notBreaching", periods=1, points=1, seconds=10))
    for second in range(0, 200, 10):
        metrics.put("Demand", 1.0, second)
    calls = [second for second in range(10, 210, 10) if watched.evaluate(metrics, second)]
    assert calls == [10, 70, 130, 190]
    assert watched.changes == 1


def test_statistics_are_of_all_values_of_a_period() -> None:
    metrics = Metrics(delay=0)
    for second in range(60):
        metrics.put("Demand", second, second)
    assert metrics.read(Metric("Demand", "Maximum", 60), 0, 60) == 59
    assert metrics.read(Metric("Demand", "Sum", 10), 10, 60) == sum(range(10, 20))
    assert metrics.read(Metric("Demand", "Maximum", 10), 60, 60) is None
