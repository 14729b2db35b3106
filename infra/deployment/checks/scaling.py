"""Rules on the number of engines: its limits, its schedule, and when engines start and stop."""

from __future__ import annotations

import math
from collections.abc import Iterator

from infra.deployment.plan import Plan
from infra.deployment.schedule import Limits, fires, limits_of, shares

from .rule import Changes, Found, Severity, rule

_HOURS_PER_DAY = 24


@rule(
    "replica-forms",
    Severity.ERROR,
    lambda _: [{"gpu.replicas": None}],
    lambda _: [{"gpu.min_replicas": None, "gpu.max_replicas": None}],
)
def replica_forms(plan: Plan) -> Found[str]:
    """The number of engines is given once: as `replicas`, or as a minimum and a maximum."""
    gpu = plan.deployment.gpu
    if gpu.replicas is not None and (gpu.min_replicas is not None or gpu.max_replicas is not None):
        yield (
            "gpu.replicas",
            f"{gpu.replicas} is short for the same minimum and maximum, and gpu.min_replicas or "
            "gpu.max_replicas is set too; keep one form",
        )


def _higher_maximum(plan: Plan) -> Iterator[Changes]:
    yield {"gpu.max_replicas": max(plan.deployment.gpu.least, 1)}


def _lower_minimum(plan: Plan) -> Iterator[Changes]:
    yield {"gpu.min_replicas": plan.deployment.gpu.most}


@rule("replica-limits", Severity.ERROR, _higher_maximum, _lower_minimum)
def replica_limits(plan: Plan) -> Found[str]:
    """The minimum number of engines does not exceed the maximum."""
    gpu = plan.deployment.gpu
    if gpu.least > gpu.most:
        yield ("gpu.max_replicas", f"{gpu.most} is less than gpu.min_replicas ({gpu.least})")


@rule("schedule-limits", Severity.ERROR)
def schedule_limits(plan: Plan) -> Found[str]:
    """An entry of the schedule has a minimum that does not exceed its maximum, and a time that comes."""
    gpu = plan.deployment.gpu
    for number, entry in enumerate(gpu.schedule):
        limits = limits_of(entry, gpu)
        if limits.least > limits.most:
            yield (
                f"gpu.schedule.{number}.min_replicas",
                f"{limits.least} is more than the maximum of {limits.most} at that time; lower it, or raise "
                "max_replicas",
            )
        if not fires(entry):
            yield (
                f"gpu.schedule.{number}.cron",
                f"no day matches {entry.cron!r}, so this entry never applies",
            )


def _without_off(plan: Plan) -> Iterator[Changes]:
    gpu = plan.deployment.gpu
    yield {"gpu.schedule": ()}
    yield {"gpu.schedule": tuple(one for one in gpu.schedule if limits_of(one, gpu).most > 0)}


@rule("schedule-runs", Severity.ERROR, _without_off)
def schedule_runs(plan: Plan) -> Found[str]:
    """The schedule lets engines run at some time."""
    gpu = plan.deployment.gpu
    if gpu.schedule and not any(limits.most > 0 for limits in shares(gpu)):
        yield (
            "gpu.schedule",
            "no engine ever runs: after its first entry, every entry has max_replicas: 0; add one with the "
            "time at which engines may start",
        )


@rule(
    "idle-minutes",
    Severity.ERROR,
    lambda plan: [{"gpu.idle_minutes": math.ceil(plan.start_seconds / 60)}],
    lambda _: [{"gpu.min_replicas": 1}],
)
def idle_minutes(plan: Plan) -> Found[str]:
    """An engine is not stopped sooner than another could start, or it would be stopped while it starts."""
    given, start = plan.deployment.gpu.idle_minutes, plan.start_seconds
    if plan.sleeps and given * 60 < start:
        yield (
            "gpu.idle_minutes",
            f"{given} min is shorter than a start, which may take {start / 60:.0f} min: an engine would be "
            "stopped while it starts",
        )


@rule(
    "scale-up",
    Severity.ERROR,
    lambda plan: [
        {"model.max_num_queued_reqs": math.ceil(plan.scale_up_at) + 1},
        {"gpu.scale_up_at": 0.75},
    ],
)
def scale_up(plan: Plan) -> Found[str]:
    """Another engine starts before the engines reject requests."""
    model = plan.deployment.model
    if 1 < plan.limits.most != plan.limits.least and plan.scale_up_at >= model.max_num_queued_reqs:
        yield (
            "gpu.scale_up_at",
            f"another engine starts above {plan.scale_up_at:g} requests per engine, but an engine rejects "
            f"requests beyond {model.max_num_queued_reqs} (model.max_num_queued_reqs)",
        )


@rule(
    "instance-hours",
    Severity.ERROR,
    lambda plan: [{"gpu.max_instance_hours_per_day": math.ceil(_most_regular_hours(plan)) + 1}],
    lambda _: [{"gpu.max_instance_hours_per_day": None}],
)
def instance_hours(plan: Plan) -> Found[str]:
    """The limit of instance hours is more than what the minimum number of engines takes."""
    limit = plan.deployment.gpu.max_instance_hours_per_day
    if limit is not None and plan.instances and limit <= _most_regular_hours(plan):
        yield (
            "gpu.max_instance_hours_per_day",
            f"the minimum number of engines takes {_most_regular_hours(plan):g} instance hours per day; "
            f"a limit of {limit} would stop them every day",
        )


def _most_regular_hours(plan: Plan) -> float:
    """The instance hours of a day at the highest minimum that ever applies."""
    limits = max(shares(plan.deployment.gpu), key=lambda one: one.least, default=Limits(0, 0))
    return _HOURS_PER_DAY * plan.instances_for(limits.least)


RULES = (
    replica_forms,
    replica_limits,
    schedule_limits,
    schedule_runs,
    idle_minutes,
    scale_up,
    instance_hours,
)
