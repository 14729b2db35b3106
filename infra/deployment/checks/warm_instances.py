"""Rules on stopped instances that wait to be started: the warm pool of the Auto Scaling group."""

from __future__ import annotations

from collections.abc import Iterator

from infra.deployment.plan import Plan

from .rule import Changes, Found, Severity, rule


def _without(_: Plan) -> Iterator[Changes]:
    yield {"gpu.warm_instances": 0}


@rule("warm-spot", Severity.ERROR, lambda _: [{"gpu.capacity": "on_demand"}], _without)
def warm_spot(plan: Plan) -> Found[str]:
    """A warm pool has no spot instances: a stopped one would be reclaimed, or not start again."""
    gpu = plan.deployment.gpu
    if gpu.warm_instances and gpu.capacity == "spot":
        yield (
            "gpu.warm_instances",
            f"{gpu.warm_instances} cannot be kept with gpu.capacity: spot; EC2 Auto Scaling stops and starts "
            "only instances that are bought on demand",
        )


def _scaled(plan: Plan) -> Iterator[Changes]:
    gpu = plan.deployment.gpu
    yield {"gpu.replicas": None, "gpu.min_replicas": 0, "gpu.max_replicas": gpu.most}
    yield {"gpu.replicas": None, "gpu.max_replicas": gpu.most + 1}


@rule("warm-scaling", Severity.ERROR, _without, _scaled)
def warm_scaling(plan: Plan) -> Found[str]:
    """A warm pool is of use only where the number of engines changes."""
    gpu = plan.deployment.gpu
    if gpu.warm_instances and plan.limits.least == plan.limits.most:
        yield (
            "gpu.warm_instances",
            f"{gpu.warm_instances} would never start: the number of engines is always {plan.limits.most}",
        )


@rule(
    "warm-count",
    Severity.ERROR,
    lambda plan: [{"gpu.warm_instances": _startable(plan)}] if _startable(plan) else [],
)
def warm_count(plan: Plan) -> Found[str]:
    """No more instances wait than could ever be started."""
    gpu = plan.deployment.gpu
    if plan.instances and plan.limits.least < plan.limits.most and gpu.warm_instances > _startable(plan):
        yield (
            "gpu.warm_instances",
            f"{gpu.warm_instances} is more than the {_startable(plan)} instances that could be started "
            "beyond the minimum",
        )


def _startable(plan: Plan) -> int:
    return plan.instance_count - plan.instances_for(plan.limits.least)


RULES = (warm_spot, warm_scaling, warm_count)
