"""The list of requests that must be allowed and denied, checked against AWS's reference of permissions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .evaluation import Request, Statement

_HERE = Path(__file__).parent
_GLOBAL = "aws:"  # Keys of every action; which of them AWS sends depends on the caller.


@dataclass(frozen=True, slots=True)
class Action:
    """What AWS's service authorization reference says of an action.

    Attributes:
        resources: patterns of the resources that it takes; none if it takes none.
        keys: condition keys of its service that it supports.
    """

    resources: Sequence[str]
    keys: Sequence[str]

    def supports(self, key: str) -> bool:
        """Whether AWS sends a condition key with the action."""
        return key.startswith(_GLOBAL) or any(
            re.fullmatch(documented_pattern(one), key, re.IGNORECASE) for one in self.keys
        )


@dataclass(frozen=True, slots=True)
class Expected:
    """Requests of one caller that are all allowed, or all denied; `resource` and `given` hold names."""

    actions: Sequence[str]
    resource: str
    given: Mapping[str, str] = field(default_factory=dict)

    def requests(self, principal: str, names: Mapping[str, Sequence[str]]) -> Iterator[Request]:
        """The requests, with the resources that the names stand for."""
        context = {"aws:SecureTransport": ["true"], "aws:PrincipalArn": [principal]}
        context |= {key: list(names[name]) for key, name in self.given.items()}
        for resource in names[self.resource]:
            for action in self.actions:
                yield Request(principal, action, resource, context)


@dataclass(frozen=True, slots=True)
class Expectations:
    """What one kind of caller must and must not be allowed.

    Attributes:
        allowed: requests that must be allowed.
        denied: requests that must be denied.
        assumed_by: the AWS service that assumes the role; None where no role calls.
        service: the AWS service that calls, where no role does.
    """

    allowed: Sequence[Expected]
    denied: Sequence[Expected]
    assumed_by: str | None = None
    service: str | None = None

    @property
    def all(self) -> Sequence[Expected]:
        """Both lists."""
        return [*self.allowed, *self.denied]


@cache
def reference() -> Mapping[str, Action]:
    """The actions of the list, as AWS documents them."""
    recorded = json.loads((_HERE / "reference.json").read_text(encoding="utf-8"))
    return {name: Action(entry["resources"], entry["keys"]) for name, entry in recorded["actions"].items()}


@cache
def expectations() -> Mapping[str, Expectations]:
    """What is expected of each kind of caller; `every_role` of every role besides."""
    kinds = {kind: entry for kind, entry in _document().items() if kind != "managed_policies"}
    return {
        kind: Expectations(
            [Expected(**one) for one in entry.get("allowed", [])],
            [Expected(**one) for one in entry.get("denied", [])],
            entry.get("assumed_by"),
            entry.get("service"),
        )
        for kind, entry in kinds.items()
    }


def managed_policy(arn: str) -> Sequence[Statement] | None:
    """The statements of one of AWS's own policies; None if they are not recorded."""
    found: Sequence[Statement] | None = _document()["managed_policies"].get(arn.partition(":policy/")[2])
    return found


@cache
def _document() -> Mapping[str, Any]:
    document: Mapping[str, Any] = yaml.safe_load((_HERE / "requests.yaml").read_text(encoding="utf-8"))
    return document


@cache
def documented_pattern(documented: str) -> str:
    """A regular expression for an ARN or key as AWS writes them: `arn:${Partition}:ecs:...`."""
    return ".*".join(re.escape(part) for part in re.split(r"\$\{[^}]+\}|<[^>]+>", documented))
