"""The function that builds images while CloudFormation waits, against moto's CodeBuild and ECR."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from infra.images.build import handler

TAG = "0" * 32
PROJECT, REPOSITORY = "orchestrator-build", "tandem/orchestrator"


class CloudFormation(http.server.ThreadingHTTPServer):
    """Where the answers of custom resources are put."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.answers: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/answer"


class _Answers(http.server.BaseHTTPRequestHandler):
    server: CloudFormation

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert not self.headers["Content-Type"], "the signature of the URL covers an empty content type"
        self.server.answers.append(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def cloudformation() -> Iterator[CloudFormation]:
    with CloudFormation() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    with mock_aws(config={"core": {"passthrough": {"urls": [r"http://127\.0\.0\.1:.*"]}}}):
        boto3.client("ecr").create_repository(repositoryName=REPOSITORY)
        boto3.client("codebuild").create_project(
            name=PROJECT,
            source={"type": "S3", "location": "assets/x.zip"},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={"type": "LINUX_CONTAINER", "image": "x", "computeType": "BUILD_GENERAL1_SMALL"},
            serviceRole="arn:aws:iam::123456789012:role/service-role/build",
        )
        yield


def request(cloudformation: CloudFormation, kind: str = "Create", **changes: Any) -> dict[str, Any]:
    properties = {"Project": PROJECT, "Repository": REPOSITORY, "Source": "assets/x.zip", "ImageTag": TAG}
    return {
        "RequestType": kind,
        "ResponseURL": cloudformation.url,
        "StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/tandem-serving/1",
        "RequestId": "request-1",
        "LogicalResourceId": "Image",
        "ResourceProperties": properties | changes,
    }


def builds() -> list[str]:
    return list(boto3.client("codebuild").list_builds_for_project(projectName=PROJECT)["ids"])


def put_image() -> None:
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}
    boto3.client("ecr").put_image(repositoryName=REPOSITORY, imageManifest=json.dumps(manifest), imageTag=TAG)


@pytest.mark.usefixtures("aws")
def test_starts_a_build_and_leaves_the_answer_to_its_end(cloudformation: CloudFormation) -> None:
    handler.handle(request(cloudformation), None)
    assert len(builds()) == 1
    assert cloudformation.answers == []


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_image_that_is_there_is_not_built_again(cloudformation: CloudFormation, kind: str) -> None:
    put_image()
    handler.handle(request(cloudformation, kind) | {"PhysicalResourceId": "1" * 32}, None)
    [answer] = cloudformation.answers
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", TAG)
    assert answer["RequestId"] == "request-1"
    assert builds() == []


@pytest.mark.usefixtures("aws")
def test_deleting_keeps_the_image_for_a_rollback(cloudformation: CloudFormation) -> None:
    put_image()
    handler.handle(request(cloudformation, "Delete") | {"PhysicalResourceId": TAG}, None)
    assert [(a["Status"], a["PhysicalResourceId"]) for a in cloudformation.answers] == [("SUCCESS", TAG)]
    assert boto3.client("ecr").describe_images(repositoryName=REPOSITORY)["imageDetails"]


@pytest.mark.usefixtures("aws")
def test_failure_to_start_is_reported_at_once(cloudformation: CloudFormation) -> None:
    handler.handle(request(cloudformation, Project="no-such-project"), None)
    [answer] = cloudformation.answers
    assert answer["Status"] == "FAILED"
    assert "no-such-project" in answer["Reason"]


def _variables(cloudformation: CloudFormation) -> list[dict[str, str]]:
    """What a build is started with."""
    event = request(cloudformation)
    variables = {
        "SOURCE": "assets/x.zip",
        "IMAGE_TAG": TAG,
        "RESPONSE_URL": event["ResponseURL"],
        "STACK_ID": event["StackId"],
        "REQUEST_ID": event["RequestId"],
        "LOGICAL_RESOURCE_ID": event["LogicalResourceId"],
    }
    return [{"name": name, "value": value, "type": "PLAINTEXT"} for name, value in variables.items()]


@pytest.fixture
def codebuild(monkeypatch: pytest.MonkeyPatch, aws: None) -> Iterator[Stubber]:
    """CodeBuild by its service model: moto forgets the variables of a build, and all its builds succeed."""
    client = boto3.client("codebuild")
    others = boto3.client
    monkeypatch.setattr(boto3, "client", lambda name: client if name == "codebuild" else others(name))
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


MESSAGE = "Error while executing command: docker push. Reason: exit status 1"


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "FAULT", "STOPPED", "TIMED_OUT"])
def test_result_of_a_build_is_reported_to_cloudformation(
    cloudformation: CloudFormation, codebuild: Stubber, status: str
) -> None:
    variables = _variables(cloudformation)
    build = {
        "buildStatus": status,
        "environment": {
            "type": "LINUX_CONTAINER",
            "image": "x",
            "computeType": "BUILD_GENERAL1_SMALL",
            "environmentVariables": variables,
        },
        "phases": [{"contexts": [{"message": MESSAGE}]}, {"contexts": [{"message": ""}]}, {}],
        "logs": {"deepLink": "https://console.example.com/logs"},
    }
    codebuild.add_response(
        "start_build", {}, {"projectName": PROJECT, "environmentVariablesOverride": variables}
    )
    codebuild.add_response("batch_get_builds", {"builds": [build]}, {"ids": ["build:1"]})
    handler.handle(request(cloudformation), None)
    assert cloudformation.answers == []
    handler.handle({"detail-type": "CodeBuild Build State Change", "detail": {"build-id": "build:1"}}, None)
    [answer] = cloudformation.answers
    assert answer["PhysicalResourceId"] == TAG
    assert answer["StackId"].endswith("tandem-serving/1")
    if status == "SUCCEEDED":
        assert (answer["Status"], answer["Reason"]) == ("SUCCESS", "")
    else:
        assert answer["Status"] == "FAILED"
        for part in (status, MESSAGE, "https://console.example.com/logs"):
            assert part in answer["Reason"]


@pytest.mark.usefixtures("aws")
def test_end_of_a_build_that_nobody_waits_for_is_passed_over(cloudformation: CloudFormation) -> None:
    build = boto3.client("codebuild").start_build(projectName=PROJECT)["build"]
    handler.handle({"detail": {"build-id": build["id"]}}, None)
    assert cloudformation.answers == []
