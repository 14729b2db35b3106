"""What a check has to say about a deployment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from infra.deployment.file import Deployment


class Severity(StrEnum):
    """An error stops the synthesis: the deployment would fail. A warning is printed."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Mend:
    """Knobs with values that work, mostly one: `{"model.max_model_len": 8192}`."""

    changes: Mapping[str, object]

    def apply(self, deployment: Deployment) -> Deployment:
        """The deployment with those values.

        Raises:
            pydantic.ValidationError: the schema refuses one.
        """
        for knob, value in self.changes.items():
            deployment = deployment.with_knob(knob, value)
        return deployment

    def __str__(self) -> str:
        return " with ".join(f"{knob}: {_yaml(value)}" for knob, value in self.changes.items())


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a knob, with the numbers, and what mends it: any one of `mends`."""

    rule: str
    severity: Severity
    knob: str
    message: str
    mends: tuple[Mend, ...] = ()

    def describe(self, deployment: Deployment) -> str:
        """`file:line: severity: knob: message. Works: knob: value, or knob: value. [rule]`."""
        works = f" Works: {', or '.join(map(str, self.mends))}." if self.mends else ""
        where = deployment.where(self.knob)
        return f"{where}{self.severity}: {self.knob}: {self.message}.{works} [{self.rule}]"


def errors(findings: Sequence[Finding]) -> list[Finding]:
    """Those that stop the synthesis."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def _yaml(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    return json.dumps(value)
