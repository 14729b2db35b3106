"""What doctor reports about stacks and names that an earlier attempt left."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ops.doctor import stacks
from ops.report import Status
from tests.ops.scripted_aws import Answer, Refused, account

from .expectations import NO_STACKS, expect


@pytest.mark.parametrize(
    ("status", "mark", "fix"),
    [
        ("CREATE_COMPLETE", Status.OK, ""),
        ("UPDATE_ROLLBACK_COMPLETE", Status.WARNING, "describe-stack-events"),
        ("UPDATE_IN_PROGRESS", Status.WARNING, "wait"),
        ("ROLLBACK_COMPLETE", Status.ERROR, "make destroy"),
        ("ROLLBACK_FAILED", Status.ERROR, "make destroy"),
        ("REVIEW_IN_PROGRESS", Status.ERROR, "delete-stack --stack-name tandem-foundation"),
        ("UPDATE_ROLLBACK_FAILED", Status.ERROR, "continue-update-rollback --stack-name tandem-foundation"),
        ("DELETE_FAILED", Status.ERROR, "make destroy"),
    ],
)
def test_stacks_of_an_earlier_attempt(status: str, mark: Status, fix: str) -> None:
    stack = {"StackName": "tandem-foundation", "StackStatus": status, "Description": "Tandem: x",
             "CreationTime": datetime.now(UTC), "StackStatusReason": "because"}  # fmt: skip
    result = stacks.check_stacks(account({"cloudformation.DescribeStacks": {"Stacks": [stack]}}))[0]
    expect(result, mark, status, fix)


def test_stack_of_another_application_and_none_at_all() -> None:
    stack = {"StackName": "tandem-foundation", "StackStatus": "CREATE_COMPLETE", "Description": "A shop",
             "CreationTime": datetime.now(UTC)}  # fmt: skip
    result = stacks.check_stacks(account({"cloudformation.DescribeStacks": {"Stacks": [stack]}}))[0]
    expect(result, Status.ERROR, "another application (A shop)", "another name")
    assert [one.status for one in stacks.check_stacks(account(NO_STACKS))] == [Status.OK, Status.OK]


FREE: dict[str, Answer] = {
    **NO_STACKS,
    "ecr.DescribeRepositories": Refused("RepositoryNotFoundException"),
    "ssm.GetParameter": Refused("ParameterNotFound"),
    "servicediscovery.ListNamespaces": {"Namespaces": []},
}


@pytest.mark.parametrize(
    ("taken", "mark", "found", "fix"),
    [
        ({}, Status.OK, "all available", ""),
        ({"ecr.DescribeRepositories": {"repositories": []}}, Status.ERROR, "tandem/orch", "ecr delete"),
        ({"ssm.GetParameter": {"Parameter": {"Value": "x"}}}, Status.ERROR, "/tandem/cert", "delete-param"),
        (
            {"servicediscovery.ListNamespaces": {"Namespaces": [{"Name": "tandem.internal"}]}},
            Status.WARNING, "tandem.internal", "another name",
        ),
    ],
)  # fmt: skip
def test_names(taken: dict[str, Answer], mark: Status, found: str, fix: str) -> None:
    expect(stacks.check_names(account({**FREE, **taken}))[0], mark, found, fix)
