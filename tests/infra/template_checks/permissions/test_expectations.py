"""The list of requests is about calls that AWS can see, and every variant's callers are in it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from infra.template_checks.permissions.evaluation import Request
from infra.template_checks.permissions.expectations import (
    documented_pattern,
    expectations,
    managed_policy,
    reference,
)
from infra.template_checks.permissions.policies import Policies
from tests.infra.synthesis import VARIANTS, synthesize


def problems(request: Request) -> Iterator[str]:
    """Why AWS would never see a request: the list is wrong then, not the policy."""
    action = reference().get(request.action)
    if action is None:
        yield f"{request.action} is not in reference.json; run `make record-iam`"
        return
    patterns = [documented_pattern(one) for one in action.resources] or [re.escape("*")]
    if not any(re.fullmatch(pattern, request.resource) for pattern in patterns):
        yield f"{request.action} takes {action.resources or '*'}, not {request.resource}"
    for key in request.context:
        if not action.supports(key):
            yield f"{request.action} does not support the condition key {key}"


CLUSTER = "arn:aws:ecs:us-east-1:111122223333:cluster/one"


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_listed_request_exists(variant: str) -> None:
    policies = Policies(synthesize(variant).assembly())
    for caller in policies.callers:
        for expected in expectations()[caller.kind].all:
            for request in expected.requests(policies.principal(caller), caller.names):
                assert list(problems(request)) == [], caller.kind


def test_every_kind_of_caller_is_in_a_variant() -> None:
    kinds = {
        caller.kind for variant in VARIANTS for caller in Policies(synthesize(variant).assembly()).callers
    }
    assert kinds == set(expectations()) - {"every_role"}


def test_every_allowed_request_is_made_in_a_variant() -> None:
    """A name that stands for nothing anywhere would leave its requests unchecked."""
    made = set()
    for variant in VARIANTS:
        policies = Policies(synthesize(variant).assembly())
        for caller in policies.callers:
            for expected in expectations()[caller.kind].all:
                made |= {(caller.kind, expected.resource)} if caller.names[expected.resource] else set()
    listed = {
        (kind, one.resource)
        for kind, entry in expectations().items()
        for one in entry.all
        if kind != "every_role"
    }
    assert made == listed


@pytest.mark.parametrize(
    ("action", "resource", "context", "problem"),
    [
        ("ecs:SubmitTaskStateChange", CLUSTER, {"ecs:cluster": [CLUSTER]}, "does not support"),
        ("ecs:DiscoverPollEndpoint", CLUSTER, {}, "takes *, not"),
        ("ecs:RegisterContainerInstance", "*", {}, "takes ['arn:"),
        ("ecs:RegisterContainers", CLUSTER, {}, "is not in reference.json"),
    ],
)
def test_request_that_aws_would_never_see_is_a_problem(
    action: str, resource: str, context: dict[str, list[str]], problem: str
) -> None:
    [found] = problems(Request("role", action, resource, context))
    assert problem in found


def test_agent_reports_task_states_without_the_key_of_the_cluster() -> None:
    for action in ("SubmitTaskStateChange", "SubmitContainerStateChange", "SubmitAttachmentStateChanges"):
        assert not reference()[f"ecs:{action}"].supports("ecs:cluster")
    assert reference()["ecs:Poll"].supports("ecs:cluster")


def test_policy_of_aws_is_known_by_its_arn() -> None:
    assert managed_policy("arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole")
    assert managed_policy("arn:aws:iam::aws:policy/AdministratorAccess") is None
