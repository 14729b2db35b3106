"""The steps of a start: each is timed once, in order, and reported as it begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from engine_start.steps import ORDER, Steps, metric_line


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def entries() -> list[Mapping[str, Any]]:
    return []


@pytest.fixture
def steps(clock: Clock, entries: list[Mapping[str, Any]]) -> Steps:
    return Steps(report=entries.append, clock=clock)


def test_whole_start_of_a_gpu(steps: Steps, clock: Clock, entries: list[Mapping[str, Any]]) -> None:
    steps.add("instance", 61.24)
    steps.add("image", 90)
    for step, line, seconds in (
        ("cache", "", 2.5),
        ("process", "", 12),
        ("", "(EngineCore pid=7) INFO Starting to load model Qwen/Qwen2.5-7B-Instruct...", 14),
        ("", "(EngineCore pid=7) INFO Model loading took 14.25 GiB memory and 13.900000 seconds", 20),
        (
            "",
            "INFO init engine (profile, create kv cache, warmup model) took 20.10 s (compilation: 8.1 s)",
            1,
        ),
    ):
        steps.begin(step) if step else steps.read(line)
        clock.now += seconds
    steps.ready()
    assert entries[-1] == {
        "event": "engine_start",
        "seconds": {
            "instance": 61.2, "image": 90, "cache": 2.5, "process": 12, "weights": 14, "compile": 20,
            "warm_up": 1,
        },
        "total_seconds": 200.7,
    }  # fmt: skip
    assert [one["step"] for one in entries[:-1]] == ["cache", "process", "weights", "compile", "warm_up"]
    assert steps.status() == {"state": "ready", "seconds": entries[-1]["seconds"]}


def test_weights_that_no_line_announced_are_taken_from_their_seconds(steps: Steps, clock: Clock) -> None:
    steps.begin("process")
    clock.now += 30
    steps.read("Model loading took 14.25 GiB memory and 18.500000 seconds")
    clock.now += 5
    steps.ready()
    assert steps.seconds == {"process": 11.5, "weights": 18.5, "compile": 5}


def test_second_model_of_speculative_decoding_does_not_begin_a_step_again(steps: Steps, clock: Clock) -> None:
    steps.begin("process")
    for line in (
        "Starting to load model a...",
        "Loading weights took 3.00 seconds",
        "Starting to load model b...",
    ):
        clock.now += 1
        steps.read(line)
    assert steps.status()["step"] == "compile"
    assert steps.seconds == {"process": 1, "weights": 1}


def test_lines_after_the_start_change_nothing(steps: Steps, entries: list[Mapping[str, Any]]) -> None:
    steps.begin("warm_up")
    steps.ready()
    before = len(entries)
    steps.read("Starting to load model m...")
    steps.ready()
    assert len(entries) == before


def test_progress_is_shown_until_the_step_ends(steps: Steps, entries: list[Mapping[str, Any]]) -> None:
    steps.begin("copy")
    steps.progress(5, 10)
    assert entries[-1] == {"event": "engine_step", "step": "copy", "bytes": 5, "of_bytes": 10}
    assert steps.status()["of_bytes"] == 10
    steps.begin("process")
    assert "of_bytes" not in steps.status()


def test_remaining_seconds_are_those_of_the_last_start(steps: Steps, clock: Clock) -> None:
    steps.previous = {"cache": 2, "process": 10, "weights": 20, "compile": 30}
    steps.begin("process")
    clock.now += 4
    assert steps.status()["remaining_seconds"] == 6 + 20 + 30
    clock.now += 60
    assert steps.status()["remaining_seconds"] == 20 + 30


def test_stopping_engine_says_so(steps: Steps) -> None:
    steps.begin("weights")
    steps.stop()
    assert steps.status()["state"] == "stopping"


def test_every_step_is_a_metric_with_a_value() -> None:
    added = metric_line("Tandem", "prod", "chat")(dict.fromkeys(ORDER, 1.5))
    names = {one["Name"] for one in added["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert {f"EngineStart{name}Seconds" for name in ("Instance", "Image", "WarmUp", "")} <= names
    assert all(isinstance(added[name], float) for name in names)
    assert added["EngineStartSeconds"] == 1.5 * len(ORDER)
