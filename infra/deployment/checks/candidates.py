"""Values to try as fixes, for the rules of several subjects."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from infra.deployment.catalog import Instance
from infra.deployment.plan import Plan

from .rule import Changes


def by_price(plan: Plan) -> list[Instance]:
    """All instance types, the cheapest first; at the end those whose price is not known."""
    return sorted(plan.catalog.instances.values(), key=lambda one: one.usd_per_hour or float("inf"))


def other_instances(plan: Plan) -> Iterator[Changes]:
    """Each instance type alone: those with the same GPU first, then by price."""
    gpus = {instance.gpu for instance in plan.known_instances}
    alike_first = sorted(by_price(plan), key=lambda one: one.gpu not in gpus)
    return ({"gpu.instance_types": (one.name,)} for one in alike_first)


def nearest(name: str, names: Iterable[str], *, count: int = 3) -> list[str]:
    """The `count` names most like the given one, the likest first."""
    return difflib.get_close_matches(name, list(names), n=count, cutoff=0.0)
