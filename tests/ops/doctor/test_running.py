"""What doctor reports about deployed services: healthy, failing in each way, and without permission."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ops import dns
from ops.doctor import AFTER, BEFORE, doctor, domain, run, running
from ops.doctor.running import start_failure
from ops.report import Status
from tests.ops.scripted_aws import Answer, Refused, account

from .expectations import expect

NOW = datetime.now(UTC)
OUTPUTS = {
    "ClusterName": "tandem-cluster", "EngineService": "tandem-engine",
    "OrchestratorService": "tandem-orchestrator", "Url": "https://x/v1",
    "LoadBalancerName": "tandem.elb.amazonaws.com",
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


def said(text: str) -> list[dict[str, Any]]:
    return [{"id": "1", "createdAt": NOW, "message": text}]


@pytest.mark.parametrize(
    ("engine", "status", "found", "fix"),
    [
        ({}, Status.OK, "1 of 1 tasks are running", ""),
        ({"runningCount": 0}, Status.ERROR, "0 of 1 tasks", "make logs"),
        (
            {"runningCount": 0, "events": said("(service x) was unable to place a task because of it")},
            Status.ERROR, "ECS says", "no instance has room",
        ),
        (
            {"deployments": [{"status": "PRIMARY", "rolloutState": "FAILED", "rolloutStateReason": "circuit breaker"}]},  # noqa: E501
            Status.ERROR, "circuit breaker", "make logs",
        ),
        (
            {"deployments": [{"status": "PRIMARY", "rolloutState": "IN_PROGRESS"}]},
            Status.WARNING, "in progress", "later",
        ),
    ],
)  # fmt: skip
def test_services(engine: dict[str, Any], status: Status, found: str, fix: str) -> None:
    results = running.check_services(account(services(engine)))
    expect(results[0], status, found, fix)
    expect(results[1], Status.OK, "orchestrator: 3 of 3")


@pytest.mark.parametrize(
    ("task", "found", "fix"),
    [
        ({"containers": [{"reason": "OutOfMemoryError: killed", "exitCode": 137}]}, "exceeded its memory", "task_memory"),  # noqa: E501
        ({"stoppedReason": "CannotPullContainerError: not found"}, "could not be pulled", "make deploy"),
        ({"stoppedReason": "Task failed container health checks"}, "did not load in time", "gpu.startup"),
        ({"stoppedReason": "Task failed ELB health checks in (target-group x)"}, "/v1/models", "make logs"),
        ({"stopCode": "SpotInterruption"}, "spot instance", "on_demand"),
        ({"stoppedReason": "ResourceInitializationError: unable to pull secrets"}, "secret", "tandem.yaml"),
        ({"stoppedReason": "Essential container in task exited"}, "exited on its own", "make logs"),
        ({"stoppedReason": "something new"}, "something new", "make logs"),
    ],
)  # fmt: skip
def test_stopped_task_is_explained_with_the_setting_to_change(
    task: dict[str, Any], found: str, fix: str
) -> None:
    answers = {**stack(), "ecs.ListTasks": {"taskArns": ["arn:t"]}, "ecs.DescribeTasks": {"tasks": [task]}}
    expect(running.check_stopped_tasks(account(answers))[0], Status.WARNING, found, fix)


def test_no_stopped_tasks_and_tasks_stopped_by_a_release() -> None:
    none: dict[str, Answer] = {**stack(), "ecs.ListTasks": {"taskArns": []}}
    expect(running.check_stopped_tasks(account(none))[0], Status.OK, "none")
    asked = {"stoppedReason": "Scaling activity initiated by (deployment ecs-svc/1)"}
    answers = {**stack(), "ecs.ListTasks": {"taskArns": ["arn:t"]}, "ecs.DescribeTasks": {"tasks": [asked]}}
    expect(running.check_stopped_tasks(account(answers))[0], Status.OK, "stopped by a release")


@pytest.mark.parametrize(
    ("states", "status", "found"),
    [
        (["healthy"] * 3, Status.OK, "3 of 3"),
        (["healthy", "unhealthy", "healthy"], Status.WARNING, "2 of 3"),
        (["unhealthy"] * 3, Status.ERROR, "Health checks failed with these codes: [503]"),
        ([], Status.ERROR, "0 of 0"),
    ],
)
def test_targets(states: list[str], status: Status, found: str) -> None:
    why = {"Description": "Health checks failed with these codes: [503]"}
    described = [
        {"TargetHealth": {"State": state, **(why if state != "healthy" else {})}} for state in states
    ]
    answers = {**services(), "elbv2.DescribeTargetHealth": {"TargetHealthDescriptions": described}}
    (result,) = running.check_targets(account(answers))
    assert (result.status, found in result.found) == (status, True), result


def instance(*, connected: bool = True, gpus: int = 1) -> dict[str, Any]:
    resource = {"name": "GPU", "stringSetValue": [f"GPU-{number}" for number in range(gpus)]}
    return {"ec2InstanceId": "i-0123456789abcdef0", "capacityProviderName": "tandem-serving-Provider",
            "agentConnected": connected, "status": "ACTIVE", "registeredResources": [resource]}  # fmt: skip


@pytest.mark.parametrize(
    ("described", "status", "found"),
    [
        ([instance()], Status.OK, "1 of 1 instances are connected, with 1 GPUs"),
        ([instance(connected=False)], Status.ERROR, "0 of 1"),
        ([instance(gpus=0)], Status.ERROR, "with 0 GPUs"),
        ([], Status.ERROR, "We currently do not have sufficient g5.xlarge capacity"),
    ],
)
def test_gpu_instances(described: list[Any], status: Status, found: str) -> None:
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
        running.check_capacity(account(answers))[0],
        status,
        found,
        "" if status is Status.OK else "instance_types",
    )


def test_instance_outside_the_capacity_provider_is_unusable() -> None:
    early = instance()
    del early["capacityProviderName"]
    answers: dict[str, Answer] = {
        **stack(),
        "ecs.ListContainerInstances": {"containerInstanceArns": ["arn:i"]},
        "ecs.DescribeContainerInstances": {"containerInstances": [early]},
    }
    (result,) = running.check_capacity(account(answers))
    expect(
        result,
        Status.ERROR,
        "i-0123456789abcdef0 belong to no capacity provider",
        "terminate-instances --instance-ids i-0123456789abcdef0",
    )


@pytest.mark.parametrize(
    ("registered", "tasks", "status", "found"),
    [
        (["10.0.1.1"], ["10.0.1.1"], Status.OK, "1 engines"),
        (["10.0.1.1", "10.0.1.2"], ["10.0.1.1"], Status.WARNING, "10.0.1.2 without a task"),
        ([], ["10.0.1.1"], Status.WARNING, "10.0.1.1 not registered"),
    ],
)
def test_cloud_map(registered: list[str], tasks: list[str], status: Status, found: str) -> None:
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
    expect(running.check_cloud_map(account(answers))[0], status, found)


def test_event_that_explains_why_a_service_cannot_start() -> None:
    assert start_failure(["(service x) has reached a steady state."]) is None
    assert start_failure(["(service x) was unable to place a task"]) == "no instance has room for the task"
    pull = "(service x) (task y) failed: CannotPullContainerError: pull access denied"
    assert start_failure(["(service x) has started 1 tasks", pull]) == "the image cannot be pulled"


def test_missing_permission_is_reported_for_each_check() -> None:
    results = run(AFTER, account({}, ingress__domain="api.example.com"))
    asked = [
        result
        for result in results
        if result.subject not in ("deployment file", "tools", "secrets", "permissions", "adapters")
    ]
    assert {result.status for result in asked} == {Status.UNKNOWN}
    assert len(results) == len(AFTER)
    for result in asked:
        assert "no permission for" in result.found
        assert "allow" in (result.fix or "")


def test_doctor_detects_whether_something_is_deployed() -> None:
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


@pytest.mark.parametrize(
    ("resolved", "status", "found"),
    [
        ({"192.0.2.1"}, Status.OK, "leads to the load balancer"),
        ({"192.0.2.9"}, Status.WARNING, "leads to 192.0.2.9, not to tandem.elb"),
        (set(), Status.ERROR, "does not resolve"),
    ],
)
def test_dns_record(monkeypatch: pytest.MonkeyPatch, resolved: set[str], status: Status, found: str) -> None:
    names = {"api.example.com": resolved, OUTPUTS["LoadBalancerName"]: {"192.0.2.1", "192.0.2.2"}}
    monkeypatch.setattr(dns, "addresses", names.get)
    record = "api.example.com. CNAME tandem.elb.amazonaws.com."
    monkeypatch.setitem(OUTPUTS, "DnsRecord", record)
    one = account(stack(), ingress__domain="api.example.com")
    fix = "" if status is Status.OK else f"create this DNS record: {record}"
    expect(domain.check_record(one)[0], status, found, fix)


def test_dns_record_in_a_hosted_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "addresses", lambda _name: set())
    one = account(stack(), ingress__domain="api.example.com", ingress__hosted_zone_id="Z0123456789")
    expect(domain.check_record(one)[0], Status.ERROR, "does not resolve", "delegated")
    assert domain.check_record(account(stack()))[0].status is Status.OK
