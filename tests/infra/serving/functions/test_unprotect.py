"""The function that clears the protection of instances, against moto and the services' own models."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from infra.serving.functions import unprotect

GROUP = "tandem-serving-Instances"


class CloudFormation(http.server.ThreadingHTTPServer):
    """Where the answers of custom resources are put."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.answers: list[dict[str, Any]] = []


class _Answers(http.server.BaseHTTPRequestHandler):
    server: CloudFormation

    def do_PUT(self) -> None:
        assert not self.headers["Content-Type"], "the signature of the URL covers an empty content type"
        self.server.answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def cloudformation() -> Iterator[CloudFormation]:
    server = CloudFormation()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(unprotect, "RETRY_SECONDS", 0.0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws(config={"core": {"mock_credentials": False, "passthrough": {"urls": ["127.0.0.1"]}}}):
        yield


def group_of(count: int) -> None:
    """Creates a group whose instances are protected."""
    boto3.client("autoscaling").create_launch_configuration(
        LaunchConfigurationName="gpu", ImageId="ami-12345678", InstanceType="t3.micro"
    )
    boto3.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=GROUP,
        LaunchConfigurationName="gpu",
        MinSize=0,
        MaxSize=200,
        DesiredCapacity=count,
        AvailabilityZones=["us-east-1a"],
        NewInstancesProtectedFromScaleIn=True,
    )


def protection() -> list[bool]:
    [group] = boto3.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])[
        "AutoScalingGroups"
    ]
    return [group["NewInstancesProtectedFromScaleIn"]] + [
        one["ProtectedFromScaleIn"] for one in group["Instances"]
    ]


def event(server: CloudFormation, kind: str) -> dict[str, Any]:
    return {
        "RequestType": kind,
        "ResponseURL": f"http://127.0.0.1:{server.server_address[1]}/answer",
        "StackId": "stack",
        "RequestId": "request",
        "LogicalResourceId": "Unprotected",
        "PhysicalResourceId": GROUP,
        "ResourceProperties": {"AutoScalingGroupName": GROUP},
    }


def context(*milliseconds: int) -> mock.Mock:
    return mock.Mock(get_remaining_time_in_millis=mock.Mock(side_effect=milliseconds))


def test_deletion_clears_the_protection_of_every_instance_and_of_new_ones(
    cloudformation: CloudFormation,
) -> None:
    group_of(70)
    assert protection() == [True] * 71
    unprotect.handle(event(cloudformation, "Delete"), context())
    assert protection() == [False] * 71
    [answer] = cloudformation.answers
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", GROUP)
    assert (answer["StackId"], answer["RequestId"]) == ("stack", "request")


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_nothing_is_cleared_while_the_stack_is_in_use(cloudformation: CloudFormation, kind: str) -> None:
    group_of(2)
    unprotect.handle(event(cloudformation, kind), context())
    assert protection() == [True, True, True]
    assert cloudformation.answers[0]["Status"] == "SUCCESS"


def test_group_that_is_gone_needs_nothing(cloudformation: CloudFormation) -> None:
    unprotect.handle(event(cloudformation, "Delete"), context())
    assert cloudformation.answers[0]["Status"] == "SUCCESS"


def _groups(protected: bool) -> dict[str, Any]:
    instance = {
        "InstanceId": "i-1", "AvailabilityZone": "us-east-1a", "LifecycleState": "Pending",
        "HealthStatus": "Healthy", "ProtectedFromScaleIn": protected,
    }  # fmt: skip
    group = {
        "AutoScalingGroupName": GROUP, "MinSize": 0, "MaxSize": 2, "DesiredCapacity": 1,
        "DefaultCooldown": 300,
        "AvailabilityZones": ["us-east-1a"], "HealthCheckType": "EC2", "CreatedTime": "2026-11-26T00:00:00Z",
        "NewInstancesProtectedFromScaleIn": False, "Instances": [instance],
    }  # fmt: skip
    return {"AutoScalingGroups": [group]}


def test_instance_that_is_still_starting_is_tried_again(
    cloudformation: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = boto3.client("autoscaling")
    monkeypatch.setattr(boto3, "client", lambda *_, **__: client)
    with Stubber(client) as stub:
        stub.add_response("describe_auto_scaling_groups", _groups(True))
        stub.add_client_error("set_instance_protection", "ValidationError", "i-1 is not in InService")
        stub.add_response("describe_auto_scaling_groups", _groups(True))
        stub.add_response("set_instance_protection", {})
        stub.add_response("describe_auto_scaling_groups", _groups(False))
        unprotect.handle(event(cloudformation, "Delete"), context(200_000))
    assert cloudformation.answers[0]["Status"] == "SUCCESS"


def test_error_is_reported_before_the_time_is_over(
    cloudformation: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = boto3.client("autoscaling")
    monkeypatch.setattr(boto3, "client", lambda *_, **__: client)
    with Stubber(client) as stub:
        stub.add_response("describe_auto_scaling_groups", _groups(True))
        stub.add_client_error("set_instance_protection", "AccessDenied", "not authorized")
        unprotect.handle(event(cloudformation, "Delete"), context(20_000))
    [answer] = cloudformation.answers
    assert answer["Status"] == "FAILED"
    assert "not authorized" in answer["Reason"]
