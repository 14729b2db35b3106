from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.engine.status import read_status


def test_known_fields_are_kept() -> None:
    report = {
        "state": "starting", "step": "copy", "step_seconds": 3.5, "bytes": 10, "of_bytes": 100,
        "seconds": {"image": 60}, "remaining_seconds": 9, "secret": "x",
    }  # fmt: skip
    status = read_status(json.dumps(report).encode())
    assert status == {name: report[name] for name in report if name not in ("state", "secret")}


@pytest.mark.parametrize("report", [{"state": "ready"}, {"state": "stopping"}, {}, [], "starting", 3, None])
def test_engine_that_does_not_start_has_no_status(report: Any) -> None:
    assert read_status(json.dumps(report).encode()) is None


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"<html>"])
def test_report_that_cannot_be_read_is_none(data: bytes) -> None:
    assert read_status(data) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"step": 3},
        {"step": "x" * 65},
        {"step": ""},
        {"bytes": "3"},
        {"bytes": True},
        {"seconds": [1]},
        {"seconds": {str(number): 1 for number in range(33)}},
        {"remaining_seconds": None},
    ],
)
def test_field_with_another_type_is_left_out(fields: dict[str, Any]) -> None:
    assert read_status(json.dumps({"state": "starting", **fields}).encode()) == {}


def test_step_with_another_type_is_left_out() -> None:
    assert read_status(b'{"state": "starting", "seconds": {"image": 1, "copy": "2"}}') == {
        "seconds": {"image": 1}
    }
