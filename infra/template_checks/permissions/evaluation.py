"""Evaluates IAM policies as AWS does: whether a request is allowed by the statements that apply to it.

It imports the standard library only, so that the rehearsal's emulator can enforce policies with it. It covers
what policies of this project use; anything else raises `CannotEvaluate` instead of guessing. Request contexts
hold the keys that AWS sends for an action, and no others: a condition on a missing key does not match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

Statement = Mapping[str, Any]

_EXCLUDING = {"NotAction", "NotResource", "NotPrincipal"}


class CannotEvaluate(ValueError):
    """A policy uses something that this evaluator does not cover."""


@dataclass(frozen=True, slots=True)
class Request:
    """A call to AWS.

    Attributes:
        principal: ARN of the role that calls, or the name of an AWS service.
        action: such as `ecs:Poll`.
        resource: ARN that the call is about; `*` where the action takes none.
        context: values by condition key.
    """

    principal: str
    action: str
    resource: str
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request is allowed, and the statement that decided; none if no statement applied."""

    allowed: bool
    statement: Statement | None = None


def decide(
    request: Request, *, identity: Sequence[Statement], resource: Sequence[Statement] = ()
) -> Decision:
    """Decides on a request within one account.

    `identity` holds the statements of the caller's policies, `resource` those of the resource's policy. A
    matching Deny in either wins; otherwise a matching Allow in either is enough.

    Raises:
        CannotEvaluate: a statement uses something that is not covered.
    """
    applying = [one for one in identity if _matches(one, request)]
    applying += [one for one in resource if _for_principal(one, request) and _matches(one, request)]
    for effect in ("Deny", "Allow"):
        for statement in applying:
            if statement["Effect"] == effect:
                return Decision(effect == "Allow", statement)
    return Decision(False)


def names_action(statement: Statement, action: str) -> bool:
    """Whether a statement is about an action."""
    return any(_like(action.lower(), one.lower()) for one in _list(statement["Action"]))


def names_resource(statement: Statement, resource: str) -> bool:
    """Whether a statement is about a resource; in a policy of the resource itself it may name none."""
    return any(covers(one, resource) for one in _list(statement.get("Resource", "*")))


def covers(pattern: str, resource: str) -> bool:
    """Whether a resource pattern of a policy covers an ARN. Wildcards stay within the first five segments."""
    if "${" in pattern:
        raise CannotEvaluate(f"policy variables such as in {pattern!r}")
    if pattern == "*" or resource == "*":
        return pattern == "*"
    wanted, found = pattern.split(":", 5), resource.split(":", 5)
    if len(wanted) < 6:
        wanted += ["*"] * (6 - len(wanted))
    return len(found) == 6 and all(_like(one, other) for one, other in zip(found, wanted, strict=True))


def unmet_conditions(statement: Statement, request: Request) -> Iterator[str]:
    """The condition keys of a statement that a request does not satisfy."""
    context = {name.lower(): list(values) for name, values in request.context.items()}
    for operator, tests in statement.get("Condition", {}).items():
        for key, values in tests.items():
            if not _holds(operator, context.get(key.lower()), [_text(one) for one in _list(values)]):
                yield key


def _matches(statement: Statement, request: Request) -> bool:
    if excluding := sorted(_EXCLUDING & set(statement)):
        raise CannotEvaluate(f"{', '.join(excluding)}; name what is meant instead")
    return (
        names_action(statement, request.action)
        and names_resource(statement, request.resource)
        and not any(unmet_conditions(statement, request))
    )


def _for_principal(statement: Statement, request: Request) -> bool:
    principal = statement.get("Principal", {})
    if principal == "*":
        return True
    is_role = request.principal.startswith("arn:")
    named = _list(principal.get("AWS" if is_role else "Service", []))
    if is_role:
        account = request.principal.split(":")[4]
        named = [one if one.startswith("arn:") or one == "*" else f"arn:aws:iam::{one}:root" for one in named]
        # The account's root stands for the account: then the caller's own policies decide, not this one.
        if statement["Effect"] == "Deny" and f"arn:aws:iam::{account}:root" in named:
            return True
    # A Deny for every principal is for services too.
    everyone = "*" in _list(principal.get("AWS", []))
    return everyone or request.principal in named


def _holds(operator: str, found: list[str] | None, wanted: list[str]) -> bool:
    """Whether one condition holds for the values of its key; None if the request has no such key."""
    quantifier, _, name = operator.rpartition(":")
    if name == "Null":
        return (found is None) == (wanted[0].lower() == "true")
    optional = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    negated = "Not" in name
    test = _OPERATORS.get(name.replace("Not", ""))
    if test is None or quantifier not in ("", "ForAnyValue", "ForAllValues") or (quantifier and optional):
        raise CannotEvaluate(f"the condition operator {operator}")
    if any("${" in one for one in wanted):
        raise CannotEvaluate(f"policy variables in the condition {operator}")
    if found is None:
        return optional or quantifier == "ForAllValues" or (negated and not quantifier)

    def holds(value: str) -> bool:
        return any(test(value, one) for one in wanted) != negated

    return all(map(holds, found)) if quantifier == "ForAllValues" else any(map(holds, found))


def _like(value: str, pattern: str) -> bool:
    return _compiled(pattern).fullmatch(value) is not None


def _arn_like(value: str, pattern: str) -> bool:
    return value.startswith("arn:") and pattern.startswith("arn:") and covers(pattern, value)


_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringEqualsIgnoreCase": lambda value, wanted: value.lower() == wanted.lower(),
    "StringLike": _like,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
    "NumericEquals": lambda value, wanted: float(value) == float(wanted),
    "NumericLessThan": lambda value, wanted: float(value) < float(wanted),
    "NumericLessThanEquals": lambda value, wanted: float(value) <= float(wanted),
    "NumericGreaterThan": lambda value, wanted: float(value) > float(wanted),
    "NumericGreaterThanEquals": lambda value, wanted: float(value) >= float(wanted),
}


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = (".*" if one == "*" else "." if one == "?" else re.escape(one) for one in pattern)
    return re.compile("".join(parts), re.DOTALL)


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
