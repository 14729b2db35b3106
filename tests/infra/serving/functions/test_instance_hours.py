"""The function that stops the engines after too many instance hours, against moto."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra.serving.functions import instance_hours

RESOURCE = "service/tandem/vllm"


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("RESOURCE_ID", RESOURCE)
    with mock_aws():
        ecs = boto3.client("ecs")
        ecs.create_cluster(clusterName="tandem")
        ecs.register_task_definition(
            family="vllm", containerDefinitions=[{"name": "vllm", "image": "vllm", "memory": 512}]
        )
        ecs.create_service(cluster="tandem", serviceName="vllm", taskDefinition="vllm", desiredCount=1)
        boto3.client("application-autoscaling").register_scalable_target(
            ServiceNamespace="ecs",
            ResourceId=RESOURCE,
            ScalableDimension="ecs:service:DesiredCount",
            MinCapacity=1,
            MaxCapacity=3,
        )
        yield


def target() -> Any:
    client = boto3.client("application-autoscaling")
    [found] = client.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    return found


def alarm(state: str) -> dict[str, Any]:
    """The part that is read of what CloudWatch sends."""
    return {
        "source": "aws.cloudwatch",
        "alarmData": {"alarmName": "InstanceHours", "state": {"value": state}},
    }


def test_engines_are_stopped_and_nothing_starts_them_again() -> None:
    instance_hours.handle(alarm("ALARM"), None)
    assert (target()["MinCapacity"], target()["MaxCapacity"]) == (0, 0)
    assert target()["SuspendedState"] == {
        "DynamicScalingInSuspended": False,
        "DynamicScalingOutSuspended": True,
        "ScheduledScalingSuspended": True,
    }


@pytest.mark.parametrize("event", [alarm("OK"), alarm("INSUFFICIENT_DATA"), {}, {"alarmData": {}}])
def test_nothing_happens_without_an_alarm(event: dict[str, Any]) -> None:
    instance_hours.handle(event, None)
    assert (target()["MinCapacity"], target()["MaxCapacity"]) == (1, 3)
