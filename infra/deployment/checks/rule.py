"""The rules that a deployment file must keep, and how one is written.

A rule finds at most one problem, and knows where to look for values that mend it. Whether a value does is
found out by trying it: see `deployment_checks`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from infra.deployment.catalog import Instance
from infra.deployment.plan import Plan

from .finding import Severity

Changes = Mapping[str, object]
"""Knobs and the values to try."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A knob and what is wrong with it."""

    knob: str
    message: str


@dataclass(frozen=True, slots=True)
class Rule:
    """`find` tells the problem, if there is one; of each of `neighbours` the first that works is offered."""

    name: str
    severity: Severity
    find: Callable[[Plan], Problem | None]
    neighbours: tuple[Callable[[Plan], Iterable[Changes]], ...]


def rule(
    name: str, severity: Severity, *neighbours: Callable[[Plan], Iterable[Changes]]
) -> Callable[[Callable[[Plan], Problem | None]], Rule]:
    """Makes a rule of the function that finds its problem."""
    return lambda find: Rule(name, severity, find, neighbours)


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
