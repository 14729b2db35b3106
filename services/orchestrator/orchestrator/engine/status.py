"""What an engine that starts reports on its status port: services/vllm/engine_start/status.py."""

from __future__ import annotations

import orjson

from ..protocol import JsonObject

_NUMBERS = ("step_seconds", "bytes", "of_bytes", "remaining_seconds")
_SECONDS = ("seconds", "previous_seconds")
_STEPS_AT_MOST = 32
_NAME_AT_MOST = 64


def read_status(body: bytes) -> JsonObject | None:
    """Returns the known fields of a report; None if the engine does not start, or it cannot be read."""
    try:
        report = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(report, dict) or report.get("state") != "starting":
        return None
    status: JsonObject = {}
    if _is_name(report.get("step")):
        status["step"] = report["step"]
    status |= {name: report[name] for name in _NUMBERS if _is_number(report.get(name))}
    for name in _SECONDS:
        steps = report.get(name)
        if isinstance(steps, dict) and len(steps) <= _STEPS_AT_MOST:
            known = {step: value for step, value in steps.items() if _is_name(step) and _is_number(value)}
            status[name] = known
    return status


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _NAME_AT_MOST


def _is_number(value: object) -> bool:
    return type(value) in (int, float)
