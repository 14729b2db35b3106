"""What doctor says of deployed services: well, wrong in each way, and where it may not look."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ops.doctor import AFTER, BEFORE, doctor, run, running
from ops.doctor.running import hopeless
from ops.report import Mark, Result
from tests.ops.scripted_aws import Answer, Refused, account

NOW = datetime.now(UTC)
OUTPUTS = {
    "ClusterName": "tandem-cluster", "EngineService": "tandem-engine",
    "OrchestratorService": "tandem-orchestrator", "Url": "https://x/v1",
}  # fmt: skip


def stack(status: str = "CREATE_COMPLETE") -> dict[str, Answer]:
    def answer(params: Any) -> Any:
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in OUTPUTS.items()]
        return {"Stacks": [{"StackName": params["StackName"], "StackStatus": status, "CreationTime": NOW,
                            "Outputs": outputs, "Description": "Tandem: x"}]}  # fmt: skip

    return {"cloudformation.DescribeStacks": answer}


def services(
    engine: dict[str, Any] | None = None, orchestrator: dict[str, Any] | None = None
) -> dict[str, Answer]:
    def one(name: str, count: int, changed: dict[str, Any] | None) -> dict[str, Any]:
        rollout = {"status": "PRIMARY", "rolloutState": "COMPLETED"}
        return {"serviceName": name, "runningCount": count, "desiredCount": count, "deployments": [rollout],
                "events": [], "serviceRegistries": [], "loadBalancers": [], **(changed or {})}  # fmt: skip

    registry = {"serviceRegistries": [{"registryArn": "arn:aws:servicediscovery:us-east-1:1:service/srv-1"}]}
    described = [
        one("tandem-engine", 1, {**registry, **(engine or {})}),
        one(
            "tandem-orchestrator",
            3,
            {"loadBalancers": [{"targetGroupArn": "arn:tg"}]},
        ),
    ]
    return {**stack(), "ecs.DescribeServices": {"services": described}}


def expect(result: Result, mark: Mark, found: str, fix: str = "") -> None:
    assert result.mark is mark, result
    assert found in result.found, result
    assert fix in (result.fix or ""), result
    if mark in (Mark.WRONG, Mark.WARNING):
        assert result.fix, result


def said(text: str) -> list[dict[str, Any]]:
    return [{"id": "1", "createdAt": NOW, "message": text}]


@pytest.mark.parametrize(
    ("engine", "mark", "found", "fix"),
    [
        ({}, Mark.OK, "1 of 1 tasks run", ""),
        ({"runningCount": 0}, Mark.WRONG, "0 of 1 tasks", "make logs"),
        (
            {"runningCount": 0, "events": said("(service x) was unable to place a task because of it")},
            Mark.WRONG, "ECS says", "no instance has room",
        ),
        (
            {"deployments": [{"status": "PRIMARY", "rolloutState": "FAILED", "rolloutStateReason": "circuit breaker"}]},  # noqa: E501
            Mark.WRONG, "circuit breaker", "make logs",
        ),
        (
            {"deployments": [{"status": "PRIMARY", "rolloutState": "IN_PROGRESS"}]},
            Mark.WARNING, "under way", "wait",
        ),
    ],
)  # fmt: skip
def test_services(engine: dict[str, Any], mark: Mark, found: str, fix: str) -> None:
    results = running.look_at_services(account(services(engine)))
    expect(results[0], mark, found, fix)
    expect(results[1], Mark.OK, "orchestrator: 3 of 3")


@pytest.mark.parametrize(
    ("task", "found", "fix"),
    [
        ({"containers": [{"reason": "OutOfMemoryError: killed", "exitCode": 137}]}, "more memory", "task_memory"),  # noqa: E501
        ({"stoppedReason": "CannotPullContainerError: not found"}, "could not be pulled", "make deploy"),
        ({"stoppedReason": "Task failed container health checks"}, "did not load in time", "gpu.startup"),
        ({"stoppedReason": "Task failed ELB health checks in (target-group x)"}, "/v1/models", "make logs"),
        ({"stopCode": "SpotInterruption"}, "spot instance", "on_demand"),
        ({"stoppedReason": "ResourceInitializationError: unable to pull secrets"}, "secret", "tandem.yaml"),
        ({"stoppedReason": "Essential container in task exited"}, "ended by itself", "make logs"),
        ({"stoppedReason": "something new"}, "something new", "make logs"),
    ],
)  # fmt: skip
def test_stopped_task_is_explained_with_its_knob(task: dict[str, Any], found: str, fix: str) -> None:
    answers = {**stack(), "ecs.ListTasks": {"taskArns": ["arn:t"]}, "ecs.DescribeTasks": {"tasks": [task]}}
    expect(running.look_at_stopped_tasks(account(answers))[0], Mark.WARNING, found, fix)


def test_no_stopped_tasks_and_those_that_a_release_ended() -> None:
    none: dict[str, Answer] = {**stack(), "ecs.ListTasks": {"taskArns": []}}
    expect(running.look_at_stopped_tasks(account(none))[0], Mark.OK, "none")
    asked = {"stoppedReason": "Scaling activity initiated by (deployment ecs-svc/1)"}
    answers = {**stack(), "ecs.ListTasks": {"taskArns": ["arn:t"]}, "ecs.DescribeTasks": {"tasks": [asked]}}
    expect(running.look_at_stopped_tasks(account(answers))[0], Mark.OK, "asked to")


@pytest.mark.parametrize(
    ("states", "mark", "found"),
    [
        (["healthy"] * 3, Mark.OK, "3 of 3"),
        (["healthy", "unhealthy", "healthy"], Mark.WARNING, "2 of 3"),
        (["unhealthy"] * 3, Mark.WRONG, "Health checks failed with these codes: [503]"),
        ([], Mark.WRONG, "0 of 0"),
    ],
)
def test_targets(states: list[str], mark: Mark, found: str) -> None:
    why = {"Description": "Health checks failed with these codes: [503]"}
    described = [
        {"TargetHealth": {"State": state, **(why if state != "healthy" else {})}} for state in states
    ]
    answers = {**services(), "elbv2.DescribeTargetHealth": {"TargetHealthDescriptions": described}}
    (result,) = running.look_at_targets(account(answers))
    assert (result.mark, found in result.found) == (mark, True), result


def instance(*, connected: bool = True, gpus: int = 1) -> dict[str, Any]:
    resource = {"name": "GPU", "stringSetValue": [f"GPU-{number}" for number in range(gpus)]}
    return {"agentConnected": connected, "status": "ACTIVE", "registeredResources": [resource]}


@pytest.mark.parametrize(
    ("described", "mark", "found"),
    [
        ([instance()], Mark.OK, "1 of 1 instances are connected, with 1 GPUs"),
        ([instance(connected=False)], Mark.WRONG, "0 of 1"),
        ([instance(gpus=0)], Mark.WRONG, "with 0 GPUs"),
        ([], Mark.WRONG, "We currently do not have sufficient g5.xlarge capacity"),
    ],
)
def test_gpu_instances(described: list[Any], mark: Mark, found: str) -> None:
    group = {"AutoScalingGroupName": "tandem-serving-x", "MinSize": 1, "MaxSize": 1,
             "DesiredCapacity": 1, "DefaultCooldown": 1, "AvailabilityZones": [], "HealthCheckType": "EC2", "CreatedTime": NOW}  # fmt: skip  # noqa: E501
    activity = {"ActivityId": "1", "AutoScalingGroupName": "tandem-serving-x", "Cause": "x", "StartTime": NOW,
                "StatusCode": "Failed",
                "StatusMessage": "We currently do not have sufficient g5.xlarge capacity"}  # fmt: skip
    answers: dict[str, Answer] = {
        **stack(),
        "ecs.ListContainerInstances": {"containerInstanceArns": ["arn:i"] * len(described)},
        "ecs.DescribeContainerInstances": {"containerInstances": described},
        "autoscaling.DescribeAutoScalingGroups": {"AutoScalingGroups": [group]},
        "autoscaling.DescribeScalingActivities": {"Activities": [activity]},
    }
    expect(
        running.look_at_capacity(account(answers))[0],
        mark,
        found,
        "" if mark is Mark.OK else "instance_types",
    )


@pytest.mark.parametrize(
    ("registered", "tasks", "mark", "found"),
    [
        (["10.0.1.1"], ["10.0.1.1"], Mark.OK, "1 engines"),
        (["10.0.1.1", "10.0.1.2"], ["10.0.1.1"], Mark.WARNING, "10.0.1.2 lead to no task"),
        ([], ["10.0.1.1"], Mark.WARNING, "10.0.1.1 missing"),
    ],
)
def test_cloud_map(registered: list[str], tasks: list[str], mark: Mark, found: str) -> None:
    described = [
        {"attachments": [{"details": [{"name": "privateIPv4Address", "value": address}]}]}
        for address in tasks
    ]
    answers: dict[str, Answer] = {
        **services(),
        "servicediscovery.ListInstances": {
            "Instances": [{"Id": one, "Attributes": {"AWS_INSTANCE_IPV4": one}} for one in registered]
        },
        "ecs.ListTasks": {"taskArns": ["arn:t"] * len(tasks)},
        "ecs.DescribeTasks": {"tasks": described},
    }
    expect(running.look_at_cloud_map(account(answers))[0], mark, found)


def test_event_that_shows_that_a_service_cannot_start() -> None:
    assert hopeless(["(service x) has reached a steady state."]) is None
    assert hopeless(["(service x) was unable to place a task"]) == "no instance has room for the task"
    pull = "(service x) (task y) failed: CannotPullContainerError: pull access denied"
    assert hopeless(["(service x) has started 1 tasks", pull]) == "the image cannot be pulled"


def test_no_permission_is_told_for_each() -> None:
    results = run(AFTER, account({}))
    assert {result.mark for result in results} == {Mark.UNKNOWN}
    assert len(results) == len(AFTER)
    for result in results:
        assert "no permission for" in result.found
        assert "allow" in (result.fix or "")


def test_doctor_finds_out_whether_something_is_deployed() -> None:
    after = doctor(account(services()))
    assert {result.subject for result in after} == {check.subject for check in AFTER}
    releasing = doctor(account(services()), deploying=True)
    assert {result.subject for result in releasing} == {check.subject for check in BEFORE}
    none: dict[str, Answer] = {
        "cloudformation.DescribeStacks": Refused("ValidationError", "Stack with id x does not exist")
    }
    assert {result.subject for result in doctor(account(none))} == {check.subject for check in BEFORE}
    failed = doctor(account(stack("ROLLBACK_COMPLETE")))
    assert {result.subject for result in failed} == {check.subject for check in BEFORE}
