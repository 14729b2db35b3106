"""The reports before and after a destruction, and the order in between."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ops import destroy
from ops.account import Failed
from ops.report import Status
from tests.ops.scripted_aws import Answer, Refused, account

CLUSTER = "tandem-cluster"
SERVICE = f"arn:aws:ecs:us-east-1:123456789012:service/{CLUSTER}/engine"
GROUP = "tandem-serving-Instances"
RESOURCES = (
    ("AWS::ECS::Cluster", CLUSTER),
    ("AWS::ECS::Service", SERVICE),
    ("AWS::AutoScaling::AutoScalingGroup", GROUP),
)
NOTHING: dict[str, Answer] = {
    "resourcegroupstaggingapi.GetResources": {"ResourceTagMappingList": []},
    "ecr.DescribeRepositories": {"repositories": []},
    "logs.DescribeLogGroups": {"logGroups": []},
}


def tagged(*arns: str) -> dict[str, Answer]:
    return {
        "resourcegroupstaggingapi.GetResources": {
            "ResourceTagMappingList": [{"ResourceARN": arn} for arn in arns]
        }
    }


def test_nothing_left() -> None:
    assert [result.status for result in destroy.left(account(NOTHING))] == [Status.OK]


def test_leftovers_are_listed_once_with_the_command_that_deletes_them() -> None:
    answers = {
        **NOTHING,
        **tagged("arn:aws:ec2:us-east-1:123456789012:volume/vol-1"),
        "ecr.DescribeRepositories": {
            "repositories": [{"repositoryName": "tandem/vllm"}, {"repositoryName": "shop"}]
        },
        "logs.DescribeLogGroups": {"logGroups": [{"logGroupName": "tandem-serving-EngineLogs"}]},
    }
    results = destroy.left(account(answers))
    assert [result.found.split("/")[-1].split(" ")[-1] for result in results] == [
        "vol-1",
        "vllm",
        "tandem-serving-EngineLogs",
    ]
    assert {result.status for result in results} == {Status.ERROR}
    assert "delete-repository --force --repository-name tandem/vllm" in (results[1].fix or "")
    kept = destroy.left(account(answers, removal_policy="retain"))
    assert {result.status for result in kept} == {Status.WARNING}


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ({"services": [{"status": "INACTIVE"}]}, 0),
        ({"services": []}, 0),
        (Refused("ClusterNotFoundException"), 0),
        ({"services": [{"status": "ACTIVE"}]}, 1),
    ],
)
def test_deleted_service_is_not_a_leftover_though_its_tags_remain(answer: Answer, left: int) -> None:
    task = "arn:aws:ecs:us-east-1:123456789012:task-definition/x:1"
    answers = {**NOTHING, **tagged(SERVICE, task), "ecs.DescribeServices": answer}
    assert len([result for result in destroy.left(account(answers)) if result.status is Status.ERROR]) == left


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (Refused("ResourceNotFoundException"), 0),
        ({"Table": {"TableStatus": "DELETING"}}, 0),
        ({"Table": {"TableStatus": "ACTIVE"}}, 1),
    ],
)
def test_deleted_table_is_not_a_leftover_though_its_tags_remain(answer: Answer, left: int) -> None:
    table = "arn:aws:dynamodb:us-east-1:123456789012:table/tandem-foundation-Usage"
    answers = {**NOTHING, **tagged(table), "dynamodb.DescribeTable": answer}
    assert len([result for result in destroy.left(account(answers)) if result.status is Status.ERROR]) == left


def protected_group() -> dict[str, Any]:
    """A group with 60 protected instances."""
    instance = {"InstanceId": "i-1", "AvailabilityZone": "a", "LifecycleState": "InService",
                "HealthStatus": "Healthy", "ProtectedFromScaleIn": True}  # fmt: skip
    return {
        "AutoScalingGroupName": GROUP, "MinSize": 0, "MaxSize": 99, "DesiredCapacity": 60,
        "DefaultCooldown": 1, "AvailabilityZones": ["a"], "HealthCheckType": "EC2",
        "CreatedTime": datetime.now(UTC), "NewInstancesProtectedFromScaleIn": True,
        "Instances": 60 * [instance],
    }  # fmt: skip


def test_services_are_scaled_to_zero_before_the_stacks_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    now = datetime.now(UTC)

    def resources(params: Any) -> Any:
        kept = RESOURCES if params["StackName"] == "tandem-serving" else ()
        return {"StackResources": [{"LogicalResourceId": kind, "ResourceType": kind, "PhysicalResourceId": name,  # noqa: E501
                                    "Timestamp": now, "ResourceStatus": "CREATE_COMPLETE"} for kind, name in kept]}  # fmt: skip  # noqa: E501

    def set_to_zero(params: Any) -> Any:
        order.append(f"desired {params['desiredCount']}")
        return {}

    def no_scaling(params: Any) -> Any:
        order.append(f"scaling {params['MinCapacity']} to {params['MaxCapacity']}")
        return {}

    def protection(params: Any) -> Any:
        order.append(f"protection of {len(params.get('InstanceIds', ['new ones']))}")
        return {}

    class Cli:
        def __init__(self, arguments: list[str], *, deployment_file: Path, region: str) -> None:
            order.append(f"cdk {arguments[0]}")

        def read(self, _each: object) -> None: ...

        def finish(self, _what: str) -> None: ...

    monkeypatch.setattr(destroy, "Cdk", Cli)
    stack = {"StackName": "x", "StackStatus": "CREATE_COMPLETE", "CreationTime": now}
    target = {"ServiceNamespace": "ecs", "ResourceId": f"service/{CLUSTER}/engine", "ScalableDimension": "ecs:service:DesiredCount",  # noqa: E501
              "MinCapacity": 3, "MaxCapacity": 10, "RoleARN": "r", "CreationTime": now}  # fmt: skip
    answers: dict[str, Answer] = {
        "cloudformation.DescribeStacks": {"Stacks": [stack]},
        "cloudformation.DescribeStackResources": resources,
        "application-autoscaling.DescribeScalableTargets": {"ScalableTargets": [target]},
        "application-autoscaling.RegisterScalableTarget": no_scaling,
        "ecs.UpdateService": set_to_zero,
        "autoscaling.DescribeAutoScalingGroups": {"AutoScalingGroups": [protected_group()]},
        "autoscaling.UpdateAutoScalingGroup": protection,
        "autoscaling.SetInstanceProtection": protection,
        "ecs.DescribeServices": {"services": [{"runningCount": 0, "pendingCount": 0}]},
    }
    destroy.destroy(account(answers), deployment_file=Path("tandem.yaml"))
    cleared = ["protection of 1", "protection of 50", "protection of 10"]
    assert order == ["scaling 0 to 0", "desired 0", *cleared, "cdk destroy"]


def test_stack_that_still_exists_is_a_failure() -> None:
    stack = {
        "StackName": "x",
        "StackStatus": "DELETE_FAILED",
        "CreationTime": datetime.now(UTC),
        "StackStatusReason": "in use",
    }
    with pytest.raises(Failed, match="DELETE_FAILED: in use"):
        destroy.deleted(account({"cloudformation.DescribeStacks": {"Stacks": [stack]}}))
