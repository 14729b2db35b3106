"""Rules on the synthesized templates: each names what would fail, or run badly, in an account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .template import Assembly, Resource


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a resource, with the numbers and what mends it."""

    resource: Resource
    message: str


Check = Callable[[Assembly], Iterator[Fault]]


@dataclass(frozen=True, slots=True)
class TemplateRule:
    """A rule: its name, and what it finds. `title` is one line on what it keeps from happening."""

    name: str
    find: Check

    @property
    def title(self) -> str:
        """First line of the rule's documentation."""
        return (self.find.__doc__ or "").strip().splitlines()[0]


def rule(name: str) -> Callable[[Check], TemplateRule]:
    """Makes a rule of a generator of faults."""
    return lambda find: TemplateRule(name, find)
