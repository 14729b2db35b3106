"""Rules and findings, for the deployment file and for synthesized templates."""

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
"""Pairs of a place (a setting such as `gpu.replicas`, or a resource) and a message with the numbers."""

Changes = Mapping[str, object]
"""Settings and the values to try."""

Candidates = Callable[[Plan], Iterable[Changes]]
"""Yields the values to try for a plan that breaks a rule."""


class Severity(StrEnum):
    """An error stops synthesis, because the deployment would fail. A warning is only printed."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Fix:
    """Settings with values that work, usually a single one: `{"model.max_model_len": 8192}`."""

    changes: Changes

    def apply(self, deployment: Deployment) -> Deployment:
        """Returns the deployment with those values.

        Raises:
            pydantic.ValidationError: A value is invalid.
        """
        for setting, value in self.changes.items():
            deployment = deployment.with_setting(setting, value)
        return deployment

    def __str__(self) -> str:
        return " with ".join(f"{setting}: {_yaml(value)}" for setting, value in self.changes.items())


@dataclass(frozen=True, slots=True)
class Finding(Generic[Place]):
    """A problem, its place, and `fixes`, each of which is sufficient."""

    rule: str
    severity: Severity
    place: Place
    message: str
    fixes: tuple[Fix, ...] = ()

    def describe(self, deployment: Deployment) -> str:
        """Formats `file:line: severity: setting: message. Fix: setting: value, or setting: value. [rule]`."""
        fix = f" Fix: {', or '.join(map(str, self.fixes))}." if self.fixes else ""
        where = deployment.where(str(self.place))
        return f"{where}{self.severity}: {self.place}: {self.message}.{fix} [{self.rule}]"


@dataclass(frozen=True, slots=True)
class Rule(Generic[Checked, Place]):
    """A named rule. Each of `candidates` yields values to try; the first that works is offered as a fix."""

    name: str
    severity: Severity
    check: Callable[[Checked], Found[Place]]
    candidates: tuple[Candidates, ...] = ()

    @property
    def title(self) -> str:
        """The first line of the rule's docstring, which describes the rule."""
        return (self.check.__doc__ or "").strip().splitlines()[0]

    def find(self, checked: Checked) -> list[Finding[Place]]:
        """Returns the findings; none if the rule is satisfied."""
        return [Finding(self.name, self.severity, place, message) for place, message in self.check(checked)]


def rule(
    name: str,
    severity: Severity = Severity.ERROR,
    *candidates: Candidates,
) -> Callable[[Callable[[Checked], Found[Place]]], Rule[Checked, Place]]:
    """Turns a function that yields violations into a rule."""
    return lambda check: Rule(name, severity, check, candidates)


def errors(findings: Sequence[Finding[Place]]) -> list[Finding[Place]]:
    """Returns the findings that stop synthesis."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def _yaml(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    return json.dumps(value)
