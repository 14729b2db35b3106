"""Alarms on metric math, which the emulator rejects: it keeps them, and evaluates none of them."""

from __future__ import annotations

from typing import Any

from ministack.services.cloudformation import provisioners

_record = provisioners._cw_metric_alarm_record


def _record_with_math(name: str, properties: dict[str, Any]) -> Any:
    """Keeps an alarm on metric math under a metric that does not exist."""
    if not properties.get("Metrics"):
        return _record(name, properties)
    rest = {key: value for key, value in properties.items() if key != "Metrics"}
    return {
        **_record(name, {**rest, "MetricName": "math", "Namespace": "math"}),
        "Metrics": properties["Metrics"],
    }


def extend() -> None:
    """Adds metric math to the emulator."""
    provisioners._cw_metric_alarm_record = _record_with_math
