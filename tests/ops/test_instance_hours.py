"""Engines that the limit of instance hours has stopped may start again after a deployment."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ops import instance_hours
from tests.ops.scripted_aws import Answer, account

TARGET = {
    "ServiceNamespace": "ecs", "ResourceId": "service/tandem/vllm",
    "ScalableDimension": "ecs:service:DesiredCount", "MinCapacity": 0, "MaxCapacity": 0, "RoleARN": "r",
    "CreationTime": datetime.now(UTC),
}  # fmt: skip
STACK = {
    "StackName": "x", "StackStatus": "UPDATE_COMPLETE", "CreationTime": datetime.now(UTC),
    "Outputs": [
        {"OutputKey": "ClusterName", "OutputValue": "tandem"},
        {"OutputKey": "EngineService", "OutputValue": "vllm"},
    ],
}  # fmt: skip


def resumed(*, suspended: bool) -> list[Any]:
    """The requests that change the target."""
    requests: list[Any] = []

    def register(parameters: Any) -> Any:
        requests.append(parameters)
        return {}

    state = {
        "DynamicScalingInSuspended": False, "DynamicScalingOutSuspended": suspended,
        "ScheduledScalingSuspended": suspended,
    }  # fmt: skip
    answers: dict[str, Answer] = {
        "cloudformation.DescribeStacks": {"Stacks": [STACK]},
        "application-autoscaling.DescribeScalableTargets": {
            "ScalableTargets": [{**TARGET, "SuspendedState": state}]
        },
        "application-autoscaling.RegisterScalableTarget": register,
    }
    gpu = {"min_replicas": 1, "max_replicas": 3, "max_instance_hours_per_day": 50}
    instance_hours.resume(account(answers, gpu=gpu))
    return requests


def test_stopped_engines_may_start_again_within_the_limits_of_the_file() -> None:
    [request] = resumed(suspended=True)
    assert (request["MinCapacity"], request["MaxCapacity"]) == (1, 3)
    assert not any(request["SuspendedState"].values())


def test_running_engines_are_left_alone() -> None:
    assert resumed(suspended=False) == []
