"""What must hold for every trace of requests, with the alarms and policies of the synthesized template."""

from __future__ import annotations

import dataclasses
import functools
import math
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.scaling.cloudwatch import Metrics, Watched
from bench.scaling.fleet import Facts, Request
from bench.scaling.resources import Resources
from bench.scaling.simulation import Outcome, simulate
from bench.scaling.traces import ALL, burst, herd, working_day
from tests.infra.synthesis import synthesize

pytestmark = pytest.mark.timeout(300)
FACTS = Facts()
SECONDS = 9000
DOWN_COOLDOWN = 900
ALARM_DELAY = 240
"""From the end of the last request: late metrics, a period that has begun, and the alarm's evaluation."""


@functools.cache
def resources() -> Resources:
    return dataclasses.replace(Resources.of_template(synthesize("scaled").serving), schedule=())


def idle_seconds() -> int:
    return 60 * synthesize("scaled").plan.deployment.gpu.idle_minutes


def unused_seconds() -> int:
    return 60 * synthesize("scaled").plan.unused_minutes


@st.composite
def traces(draw: st.DrawFn) -> list[Request]:
    requests = []
    for _ in range(draw(st.integers(1, 4))):
        at, count = draw(st.integers(0, 4000)), draw(st.integers(1, 150))
        spacing, lasting = draw(st.sampled_from((0, 1, 5, 20))), draw(st.sampled_from((1, 10, 60, 240)))
        stream = draw(st.booleans())
        requests += [Request(at + number * spacing, lasting, stream) for number in range(count)]
    return [request for request in requests if request.at < 5000]


def ran(requests: list[Request], **options: float) -> Outcome:
    return simulate(resources(), requests, FACTS, seconds=SECONDS, **options)  # type: ignore[arg-type]


@settings(max_examples=12)
@given(traces())
@example([Request(1, 1, stream=False)])
@example([Request(number // 100, 60) for number in range(400)])
def test_no_trace_loses_a_request_and_none_leaves_an_engine_on(requests: list[Request]) -> None:
    outcome = ran(requests)
    fleet = outcome.fleet
    assert fleet.lost == 0
    assert len(fleet.waits) + fleet.rejected == len(requests)
    assert outcome.desired[-1][1] == 0
    several = max(number for _, number in outcome.desired) > 1
    shrinking = DOWN_COOLDOWN if several else 0  # it blocks every policy that shrinks
    assert outcome.desired[-1][0] <= fleet.last_end + idle_seconds() + shrinking + ALARM_DELAY
    assert all(number <= resources().most for _, number in outcome.desired)


@settings(max_examples=12)
@given(traces(), st.sampled_from((600, 3000, math.inf)))
@example([Request(1, 1)], math.inf)
@example([Request(number * 30, 1, stream=False) for number in range(60)], math.inf)
def test_engines_that_answer_late_or_never_are_not_left_on(requests: list[Request], earliest: float) -> None:
    facts = dataclasses.replace(FACTS, earliest=earliest)
    outcome = simulate(resources(), requests, facts, seconds=SECONDS + 3000)
    assert outcome.desired[-1][1] == 0
    shrinking = DOWN_COOLDOWN if max(number for _, number in outcome.desired) > 1 else 0
    last = max(outcome.fleet.last_end, 0 if math.isinf(earliest) else earliest)
    limit = last + shrinking + max(idle_seconds(), unused_seconds()) + ALARM_DELAY
    assert outcome.desired[-1][0] <= limit
    assert all(number <= 1 for at, number in outcome.desired if at < earliest)


def test_start_that_takes_an_hour_adds_no_second_engine() -> None:
    requests = [Request(at, 5) for at in range(0, 3600, 30)]
    facts = dataclasses.replace(FACTS, earliest=3600)
    outcome = simulate(resources(), requests, facts, seconds=4000)
    assert {number for at, number in outcome.desired if at < 3600} == {0, 1}
    assert len(outcome.fleet.starts) == 1


def test_night_repeats_no_alarm_that_stops_engines() -> None:
    """An alarm that stays raised while engines sleep could undo what wakes one."""
    alarms = [Watched(one) for one in resources().alarms if {"Idle", "Unused"} & _words(one.name)]
    assert len(alarms) == 2
    metrics = Metrics(delay=0)
    for minute in range(600):
        for name, value in (("EngineDemand", 0), ("HeldDemand", 0), ("EnginesUp", 0)):
            metrics.put(name, value, minute * 60)
        # The instance of the engine that has stopped runs on for a while.
        metrics.put("GroupInServiceInstances", int(minute < 18), minute * 60)
        assert not any(one.evaluate(metrics, minute * 60) for one in alarms)


def _words(name: str) -> set[str]:
    return set(re.findall("[A-Z][a-z]+", name))


@settings(max_examples=12)
@given(traces(), st.integers(0, 5000), st.integers(1, 3))
def test_dead_publisher_never_stops_engines(requests: list[Request], dies: int, engines: int) -> None:
    outcome = ran(requests, dead_from=dies, desired=engines)
    for (_, before), (at, after) in zip(outcome.desired, outcome.desired[1:], strict=False):
        if after < before:
            assert at <= dies + ALARM_DELAY  # by what was published before


@settings(max_examples=12)
@given(traces())
def test_waking_never_stops_an_engine(requests: list[Request]) -> None:
    (wake,) = [alarm for alarm in resources().alarms if "Wake" in alarm.name]
    only = dataclasses.replace(resources(), alarms=(wake,))
    outcome = simulate(only, requests, FACTS, seconds=SECONDS, desired=2)
    assert [number for _, number in outcome.desired] == [2]


def test_first_request_waits_for_the_start_and_the_alarm() -> None:
    outcome = simulate(resources(), [Request(600, 5)], FACTS, seconds=3600)
    (wait,) = outcome.fleet.waits
    assert FACTS.cold_start <= wait <= FACTS.cold_start + 45


def test_request_that_is_not_a_stream_comes_back_and_is_answered() -> None:
    outcome = simulate(resources(), [Request(600, 5, stream=False)], FACTS, seconds=3600)
    (wait,) = outcome.fleet.waits
    assert FACTS.cold_start <= wait <= FACTS.cold_start + 45 + FACTS.retry


def test_next_request_soon_after_a_stop_finds_the_instance() -> None:
    stop = ran([Request(0, 5)]).desired[-1][0]
    outcome = ran([Request(0, 5), Request(stop + 60, 5)])
    assert outcome.fleet.waits[1] <= FACTS.warm_start + 45


def test_burst_starts_a_second_engine() -> None:
    trace = burst()
    outcome = simulate(resources(), trace.requests, FACTS, seconds=trace.seconds)
    assert max(number for _, number in outcome.desired) >= 2
    assert outcome.flaps == 0


def test_herd_does_not_start_more_engines_than_it_needs() -> None:
    trace = herd()
    outcome = simulate(resources(), trace.requests, FACTS, seconds=trace.seconds)
    assert (len(outcome.fleet.starts), outcome.fleet.lost) == (1, 0)


def test_working_day_costs_less_than_half_of_engines_that_are_always_on() -> None:
    trace = working_day()
    outcome = simulate(resources(), trace.requests, FACTS, seconds=trace.seconds)
    assert outcome.fleet.instance_seconds < 0.5 * resources().most * trace.seconds
    assert outcome.fleet.lost == 0
    assert outcome.wait(0.95) < 10


def test_traces_differ() -> None:
    assert len({make().name for make in ALL}) == len(ALL)
