"""The evaluator of policies, against an independent one and against what AWS documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.template_checks.permissions.evaluation import CannotEvaluate, Request, decide, unmet_conditions

RECORDED = json.loads(Path(__file__).with_name("decisions.json").read_text())
CLUSTER = "arn:aws:ecs:us-east-1:111122223333:cluster/one"
ROLE = "arn:aws:iam::111122223333:role/agent"


def statement(**elements: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "ecs:*", "Resource": "*", **elements}


@pytest.mark.parametrize("number", range(len(RECORDED)))
def test_decides_as_the_independent_evaluator(number: int) -> None:
    one = RECORDED[number]
    request = Request(one["principal"], one["action"], one["resource"], one["context"])
    decision = decide(request, identity=one["identity"], resource=one["resource_policy"])
    assert decision.allowed is one["allowed"]


def test_recorded_decisions_are_of_both_kinds() -> None:
    allowed = sum(one["allowed"] for one in RECORDED)
    assert 30 < allowed < len(RECORDED) - 30


def test_condition_on_a_key_that_the_request_lacks_allows_nothing() -> None:
    """The fault that kept every task PENDING: AWS sends no ecs:cluster with SubmitTaskStateChange."""
    conditional = statement(Condition={"ArnEquals": {"ecs:cluster": CLUSTER}})
    request = Request(ROLE, "ecs:SubmitTaskStateChange", CLUSTER)
    assert not decide(request, identity=[conditional]).allowed
    assert list(unmet_conditions(conditional, request)) == ["ecs:cluster"]


def test_a_deny_wins_wherever_it_stands() -> None:
    request = Request(ROLE, "ecs:Poll", CLUSTER)
    deny = statement(Effect="Deny", Principal="*")
    decision = decide(request, identity=[statement()], resource=[deny])
    assert (decision.allowed, decision.statement) == (False, deny)


def test_a_service_is_let_in_by_the_policy_of_the_resource_only() -> None:
    request = Request("ecs.amazonaws.com", "ecs:Poll", CLUSTER)
    assert decide(
        request, identity=[], resource=[statement(Principal={"Service": "ecs.amazonaws.com"})]
    ).allowed
    assert not decide(request, identity=[], resource=[statement(Principal={"AWS": ROLE})]).allowed


@pytest.mark.parametrize(
    "elements",
    [
        {"NotAction": "iam:*"},
        {"NotResource": "*"},
        {"Resource": "arn:aws:s3:::${aws:PrincipalTag/team}"},
        {"Condition": {"StringEquals": {"aws:SourceAccount": "${aws:PrincipalAccount}"}}},
        {"Condition": {"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}},
        {"Condition": {"ForAnyValue:StringEqualsIfExists": {"aws:TagKeys": "a"}}},
    ],
    ids=lambda elements: json.dumps(elements)[:40],
)
def test_what_is_not_covered_is_refused(elements: dict[str, Any]) -> None:
    with pytest.raises(CannotEvaluate):
        decide(Request(ROLE, "ecs:Poll", CLUSTER), identity=[statement(**elements)])
