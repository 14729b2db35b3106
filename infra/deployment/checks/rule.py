"""A rule and what it finds: on the deployment file, and on the templates that follow from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from infra.deployment.file import Deployment
from infra.deployment.plan import Plan

Checked = TypeVar("Checked")
Place = TypeVar("Place")

Found = Iterator[tuple[Place, str]]
"""Pairs of what is wrong, a setting such as `gpu.replicas` or a resource, and a message with the numbers."""

Changes = Mapping[str, object]
"""Settings and the values to try."""


class Severity(StrEnum):
    """An error stops the synthesis: the deployment would fail. A warning is printed."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Fix:
    """Settings with values that work, mostly one: `{"model.max_model_len": 8192}`."""

    changes: Changes

    def apply(self, deployment: Deployment) -> Deployment:
        """Returns the deployment with those values.

        Raises:
            pydantic.ValidationError: the schema does not allow one of them.
        """
        for setting, value in self.changes.items():
            deployment = deployment.with_knob(setting, value)
        return deployment

    def __str__(self) -> str:
        return " with ".join(f"{setting}: {_yaml(value)}" for setting, value in self.changes.items())


@dataclass(frozen=True, slots=True)
class Finding(Generic[Place]):
    """What is wrong, where, and what fixes it: any one of `fixes`."""

    rule: str
    severity: Severity
    place: Place
    message: str
    fixes: tuple[Fix, ...] = ()

    def describe(self, deployment: Deployment) -> str:
        """`file:line: severity: setting: message. Works: setting: value, or setting: value. [rule]`."""
        works = f" Works: {', or '.join(map(str, self.fixes))}." if self.fixes else ""
        where = deployment.where(str(self.place))
        return f"{where}{self.severity}: {self.place}: {self.message}.{works} [{self.rule}]"


@dataclass(frozen=True, slots=True)
class Rule(Generic[Checked, Place]):
    """A rule by its name. Each of `candidates` yields values to try; the first that works is a fix."""

    name: str
    severity: Severity
    check: Callable[[Checked], Found[Place]]
    candidates: tuple[Callable[[Plan], Iterable[Changes]], ...] = ()

    @property
    def title(self) -> str:
        """The first line of the rule's documentation: what the rule prevents."""
        return (self.check.__doc__ or "").strip().splitlines()[0]

    def find(self, checked: Checked) -> list[Finding[Place]]:
        """Returns what breaks the rule; nothing where it is kept."""
        return [Finding(self.name, self.severity, place, message) for place, message in self.check(checked)]


def rule(
    name: str,
    severity: Severity = Severity.ERROR,
    *candidates: Callable[[Plan], Iterable[Changes]],
) -> Callable[[Callable[[Checked], Found[Place]]], Rule[Checked, Place]]:
    """Makes a rule of the function that yields what breaks it."""
    return lambda check: Rule(name, severity, check, candidates)


def errors(findings: Sequence[Finding[Place]]) -> list[Finding[Place]]:
    """Returns those that stop the synthesis."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def _yaml(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    return json.dumps(value)
