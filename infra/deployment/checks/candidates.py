"""Candidate values for fixes, shared by several groups of rules."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from infra.deployment.catalog import Instance
from infra.deployment.plan import Plan

from .rule import Changes


def by_price(plan: Plan) -> list[Instance]:
    """Returns all instance types, cheapest first; those with an unknown price are last."""
    return sorted(plan.catalog.instances.values(), key=lambda one: one.usd_per_hour or float("inf"))


def other_instances(plan: Plan) -> Iterator[Changes]:
    """Yields each instance type on its own: those with the same GPU first, then by price."""
    gpus = {instance.gpu for instance in plan.known_instances}
    alike_first = sorted(by_price(plan), key=lambda one: one.gpu not in gpus)
    return ({"gpu.instance_types": (one.name,)} for one in alike_first)


def nearest(name: str, names: Iterable[str], *, count: int = 3) -> list[str]:
    """Returns the `count` names most similar to the given one, most similar first."""
    return difflib.get_close_matches(name, list(names), n=count, cutoff=0.0)
