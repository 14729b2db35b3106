"""The progress of a deployment, and when it is given up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops import deploy
from ops.deploy import Progress
from ops.doctor.domain import NOT_VERIFIED
from tests.ops.scripted_aws import Answer, Refused, ScriptedAccount, account

SERVICE = "arn:aws:ecs:us-east-1:123456789012:service/c/tandem-engine"
FULL = (
    "(service tandem-engine) was unable to place a task because no container instance met its requirements."
)


def stack_event(number: int, kind: str, status: str, reason: str = "", *, age: float = 0.0) -> dict[str, Any]:
    return {"StackId": "x", "EventId": str(number), "StackName": "tandem-serving", "LogicalResourceId": f"R{number}",  # noqa: E501
            "ResourceType": kind, "ResourceStatus": status, "ResourceStatusReason": reason,
            "Timestamp": datetime.now(UTC) + timedelta(seconds=5 - age)}  # fmt: skip


def answers(events: list[dict[str, Any]], ecs_events: list[str], failed: int = 0) -> dict[str, Answer]:
    now = datetime.now(UTC) + timedelta(seconds=5)
    resources = [
        {"LogicalResourceId": kind, "ResourceType": kind, "PhysicalResourceId": name, "Timestamp": now,
         "ResourceStatus": "CREATE_COMPLETE"}
        for kind, name in (("AWS::ECS::Cluster", "c"), ("AWS::ECS::Service", SERVICE))
    ]  # fmt: skip
    service = {
        "serviceName": "tandem-engine",
        "events": [
            {"id": str(n), "createdAt": now, "message": message} for n, message in enumerate(ecs_events)
        ],
        "deployments": [{"status": "PRIMARY", "failedTasks": failed}],
    }
    return {
        "cloudformation.DescribeStackEvents": {"StackEvents": events},
        "cloudformation.DescribeStackResources": {"StackResources": resources},
        "ecs.DescribeServices": {"services": [service]},
    }


def output_of(one: ScriptedAccount, capsys: pytest.CaptureFixture[str]) -> tuple[Progress, list[str]]:
    progress = Progress(one)
    progress.look()
    return progress, capsys.readouterr().err.splitlines()


def test_account_that_cloudfront_does_not_accept_yet_is_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reason = f"Access denied for operation 'AWS::CloudFront::Distribution: {NOT_VERIFIED}.'"
    events = [stack_event(1, "AWS::CloudFront::Distribution", "CREATE_FAILED", reason)]
    _, lines = output_of(account(answers(events, [])), capsys)
    assert NOT_VERIFIED in lines[0]
    assert "ingress.cloudfront: false, and ingress.domain with a certificate" in lines[1]


def test_slow_resources_are_reported_with_their_duration_and_failures_with_their_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = [
        stack_event(3, "AWS::ECS::Service", "CREATE_FAILED", "circuit breaker"),
        stack_event(2, "AWS::IAM::Role", "CREATE_COMPLETE"),
        stack_event(1, "Custom::ContainerImage", "CREATE_IN_PROGRESS"),
        stack_event(0, "AWS::ECS::Service", "CREATE_FAILED", "of an earlier try", age=3600),
    ]
    progress, lines = output_of(account(answers(events, ["has started 1 tasks"])), capsys)
    text = "\n".join(lines)
    assert "an image, built in CodeBuild (R1), usually 12 min" in text
    assert "R3: circuit breaker" in text
    assert "earlier try" not in text
    assert "IAM" not in text
    assert "ECS: has started 1 tasks" in text
    progress.look()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("looks", "failed", "given_up"), [(3, 3, True), (2, 3, False), (5, 0, False)])
def test_deployment_is_given_up_when_ecs_keeps_reporting_that_a_service_cannot_start(
    looks: int, failed: int, given_up: bool
) -> None:
    progress = Progress(account(answers([], [FULL], failed)))
    for _ in range(looks):
        progress.look()
    assert (progress.reason is not None) == given_up
    if given_up:
        assert "no instance has room for the task" in str(progress.reason)


def test_service_that_recovers_is_not_given_up() -> None:
    one = account(answers([], [FULL], 3))
    progress = Progress(one)
    progress.look()
    progress.look()
    one.aws.answers.update(answers([], ["has reached a steady state."], 3))
    progress.look()
    one.aws.answers.update(answers([], [FULL], 3))
    progress.look()
    assert progress.reason is None


@pytest.mark.parametrize(
    ("status", "call"),
    [
        ("UPDATE_IN_PROGRESS", "cloudformation.CancelUpdateStack"),
        ("CREATE_IN_PROGRESS", "cloudformation.DeleteStack"),
    ],
)
def test_giving_up_rolls_back_an_update_and_deletes_a_first_deployment(status: str, call: str) -> None:
    class Cli:
        stopped = False

        def stop(self) -> None:
            self.stopped = True

    stack = {"StackName": "x", "StackStatus": status, "CreationTime": datetime.now(UTC)}
    one = account({"cloudformation.DescribeStacks": {"Stacks": [stack]}, call: {}})
    cli = Cli()
    deploy._give_up(one, cli)  # type: ignore[arg-type]
    assert cli.stopped
    assert one.aws.calls[-1] == (call, {"StackName": "tandem-serving"})


def test_unreadable_progress_is_reported_once_and_stops_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = Progress(account({"cloudformation.DescribeStackEvents": Refused("ExpiredToken")}))
    deploy.look(progress)
    deploy.look(progress)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "the deployment continues" in lines[0]
