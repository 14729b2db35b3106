"""Medians, ratios, the table, the comparison and the guard."""

from __future__ import annotations

import pytest

from bench.guard import verdict
from bench.results import aims_text, compare, median, ratios, spread, table

ROUNDS = {
    "relay": {"ours": [50.0, 52.0, 48.0], "nginx": [16.0], "smg": [100.0], "vllm-router": [40.0]},
    "tool loop": {"ours": [190.0]},
    "memory": {"ours": [61.0]},
}


def test_median_and_spread() -> None:
    assert median([3, 1, 2]) == 2
    assert spread([3, 1, 2]) == 1


def test_ratios_omit_gateways_that_were_not_measured() -> None:
    found = {(aim.measure, aim.other): value for aim, value in ratios(ROUNDS)}
    assert found["relay", "smg"] == pytest.approx(0.5)
    assert found["relay", "vllm-router"] == pytest.approx(1.25)
    assert found["tool loop", "nginx relay"] == pytest.approx(190 / 16)
    assert found["memory", None] == 61
    assert ("relay", "litellm") not in found


def test_text_marks_which_targets_are_met() -> None:
    lines = aims_text(ROUNDS).splitlines()
    assert lines[0].startswith("✓ relay compared with smg: 0.5")
    assert [line for line in lines if line.startswith("✗")] == ["✗ memory: 61, target: at most 60"]


def test_table_has_a_row_per_measure_and_blank_cells() -> None:
    rows = table(ROUNDS, {"relay": "CPU µs"}, ["ours", "nginx"]).splitlines()
    assert rows[2] == "| relay (CPU µs) | 50.0 ± 2.0 | 16.0 |"
    assert rows[3] == "| tool loop | 190.0 |  |"


def test_comparison_is_relative_to_nginx_in_the_same_run() -> None:
    slower = {"rounds": {"relay": {"ours": [100.0], "nginx": [32.0]}}}
    assert "+0%" in compare({"rounds": {"relay": {"ours": [50.0], "nginx": [16.0]}}}, slower)


def test_guard_fails_at_one_and_a_half_times() -> None:
    stored = {"relay": 3.0, "chunk": 2.0, "tool loop": 12.0}
    assert verdict({"relay": 4.4, "chunk": 2.9, "tool loop": 17.9}, stored) == []
    (worse,) = verdict({"relay": 4.6, "chunk": 2.0, "tool loop": 12.0}, stored)
    assert worse.startswith("relay: 4.60 times")
