"""Runs a trace of requests against alarms and policies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from .autoscaling import Schedule, Target
from .cloudwatch import Metrics, Watched
from .fleet import Facts, Fleet, Request
from .resources import Resources

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
_FLAP_SECONDS = 1800


@dataclass(frozen=True)
class Sample:
    """What there was in one minute."""

    minute: int
    demand: int
    held: int
    desired: int
    up: int
    instances: int


@dataclass
class Outcome:
    """What came of a trace."""

    fleet: Fleet
    seconds: int
    engine_seconds: int
    samples: list[Sample]
    desired: list[tuple[int, int]]

    @property
    def flaps(self) -> int:
        """Starts within half an hour after a stop."""
        fleet = self.fleet
        return sum(any(0 <= start - stop < _FLAP_SECONDS for stop in fleet.stops) for start in fleet.starts)

    def wait(self, share: float) -> int:
        """Returns the seconds that this share of the answered requests waited at most."""
        waits = sorted(self.fleet.waits)
        return waits[max(0, math.ceil(share * len(waits)) - 1)] if waits else 0


def simulate(
    resources: Resources,
    requests: Sequence[Request],
    facts: Facts,
    *,
    seconds: int,
    start: datetime = MONDAY,
    dead_from: float = math.inf,
    desired: int = 0,
) -> Outcome:
    """Returns what comes of a trace.

    Args:
        start: the time of second 0, for schedules.
        dead_from: the second from which on no orchestrator publishes metrics.
        desired: the number of engines that run at the start.
    """
    metrics, fleet = Metrics(delay=facts.metric_delay), Fleet(facts)
    target = Target(resources, desired=desired)
    fleet.resize(target.desired, -facts.cold_start)
    alarms = [Watched(alarm) for alarm in resources.alarms]
    schedule = Schedule(resources.schedule, start)
    queue = sorted(requests, reverse=True)
    engine_seconds, samples = 0, []
    changes = [(0, target.desired)]
    published = _Published(facts)
    for now in range(seconds):
        arrivals = []
        while queue and queue[-1].at <= now:
            arrivals.append(queue.pop())
        fleet.step(now, arrivals)
        if now % facts.publish < facts.tasks and now < dead_from:
            published.publish(fleet, metrics, now)
        if now % 60 == 0:
            metrics.put("GroupInServiceInstances", fleet.instances(now), now)  # by AWS
            for action in schedule.due(now // 60):
                target.limit(action)
        for watched in alarms:
            if now % watched.interval == 0 and watched.evaluate(metrics, now):
                for name in watched.alarm.actions:
                    target.call(name, watched.value, watched.alarm.threshold, now)
        if target.desired != changes[-1][1]:
            changes.append((now, target.desired))
            fleet.resize(target.desired, now)
        engine_seconds += len(fleet.engines)
        if now % 60 == 0:
            samples.append(_sample(fleet, target, now))
    fleet.finish(seconds)
    return Outcome(fleet, seconds, engine_seconds, samples, changes)


def _sample(fleet: Fleet, target: Target, now: int) -> Sample:
    return Sample(
        now // 60,
        sum(one.load for one in fleet.engines),
        len(fleet.held),
        target.desired,
        len(fleet.up(now)),
        fleet.instances(now),
    )


class _Published:
    """What each orchestrator has published of the requests without an engine."""

    def __init__(self, facts: Facts) -> None:
        self._tasks = facts.tasks
        self._publish = facts.publish
        self._unmet = [0] * facts.tasks

    def publish(self, fleet: Fleet, metrics: Metrics, now: int) -> None:
        """Publishes the line of the orchestrator whose turn it is."""
        task = now % self._publish
        held = len(range(task, len(fleet.held), self._tasks))
        unmet = len(range(task, fleet.unmet, self._tasks))
        metrics.put("EngineDemand", fleet.demand, now)
        metrics.put("HeldDemand", held + unmet - self._unmet[task], now)
        metrics.put("EnginesUp", len(fleet.up(now)), now)
        self._unmet[task] = unmet
        if task == self._tasks - 1:
            fleet.ended = False
