"""The function that builds images while CloudFormation waits, against moto and the services' own models."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import boto3
import botocore.exceptions
import hypothesis.strategies as st
import pytest
from botocore.stub import Stubber
from hypothesis import given, settings
from moto import mock_aws

from infra.images.build import handler
from infra.template_checks import builds as builds_rules

TAG = "0" * 32
PROJECT, REPOSITORY = "orchestrator-build", "tandem/orchestrator"


class CloudFormation(http.server.ThreadingHTTPServer):
    """Where the answers of custom resources are put."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.answers: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/answer"


class _Answers(http.server.BaseHTTPRequestHandler):
    server: CloudFormation

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert not self.headers["Content-Type"], "the signature of the URL covers an empty content type"
        assert len(body) <= handler.RESPONSE_BYTES
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == 200:
            self.server.answers.append(json.loads(body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


class Context:
    """What Lambda says of an invocation: the time that it has left, call by call."""

    def __init__(self, *milliseconds: int) -> None:
        self._milliseconds = list(milliseconds)

    def get_remaining_time_in_millis(self) -> int:
        return self._milliseconds.pop(0)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "START_RETRY_SECONDS", 0)
    monkeypatch.setattr(handler, "ANSWER_RETRY_SECONDS", 0)


@pytest.fixture(scope="module")
def server() -> Iterator[CloudFormation]:
    with CloudFormation() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cloudformation(server: CloudFormation) -> CloudFormation:
    server.answers.clear()
    server.statuses.clear()
    return server


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
    handler.handle(request(cloudformation), Context())
    assert len(builds()) == 1
    assert cloudformation.answers == []


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_image_that_is_there_is_not_built_again(cloudformation: CloudFormation, kind: str) -> None:
    put_image()
    handler.handle(request(cloudformation, kind) | {"PhysicalResourceId": "1" * 32}, Context())
    [answer] = cloudformation.answers
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", TAG)
    assert answer["RequestId"] == "request-1"
    assert builds() == []


@pytest.mark.usefixtures("aws")
def test_deleting_keeps_the_image_for_a_rollback(cloudformation: CloudFormation) -> None:
    put_image()
    handler.handle(request(cloudformation, "Delete") | {"PhysicalResourceId": TAG}, Context())
    assert [(a["Status"], a["PhysicalResourceId"]) for a in cloudformation.answers] == [("SUCCESS", TAG)]
    assert boto3.client("ecr").describe_images(repositoryName=REPOSITORY)["imageDetails"]


@pytest.mark.usefixtures("aws")
def test_failure_to_start_is_reported_at_once(cloudformation: CloudFormation) -> None:
    handler.handle(request(cloudformation, Project="no-such-project"), Context())
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


class Services:
    """AWS by the services' own models: what is called, and answers that the models allow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        self._clients = {
            name: boto3.client(name, region_name="us-east-1") for name in ("codebuild", "ecr", "logs")
        }
        self._stubs = {name: Stubber(client) for name, client in self._clients.items()}
        monkeypatch.setattr(handler, "_client", self._clients.__getitem__)

    def __getitem__(self, service: str) -> Stubber:
        return self._stubs[service]

    def __enter__(self) -> Services:
        for stub in self._stubs.values():
            stub.activate()
        return self

    def __exit__(self, *_: object) -> None:
        for stub in self._stubs.values():
            stub.assert_no_pending_responses()


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    with Services(monkeypatch) as stubs:
        yield stubs


MESSAGE = "COMMAND_EXECUTION_ERROR: Error while executing command: docker push. Reason: exit status 1"
BUILD_ARN = f"arn:aws:codebuild:us-east-1:123456789012:build/{PROJECT}:0000-1"
LOGS = {"group-name": "builds", "stream-name": "0000-1", "deep-link": "https://console.example.com/logs"}
ENVIRONMENT = {"type": "LINUX_CONTAINER", "image": "x", "computeType": "BUILD_GENERAL1_SMALL"}
FINAL = sorted(builds_rules.FINAL_STATES)


def ended(status: str, variables: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """CodeBuild's event at the end of a build."""
    information = {
        "environment": {"environment-variables": variables or []},
        "phases": [{"phase-context": [MESSAGE]}, {"phase-context": [": "]}, {"phase-context": []}, {}],
        "logs": LOGS,
    }
    detail = {"build-id": BUILD_ARN, "build-status": status, "additional-information": information}
    return {"detail-type": "CodeBuild Build State Change", "detail": detail}


def log(services: Services, *lines: str) -> None:
    services["logs"].add_response(
        "get_log_events",
        {"events": [{"timestamp": 1, "message": f"{line}\n", "ingestionTime": 1} for line in lines]},
        {"logGroupName": "builds", "logStreamName": "0000-1", "limit": 100},
    )


def no_image(services: Services) -> None:
    services["ecr"].add_client_error("describe_images", "ImageNotFoundException")


@pytest.mark.parametrize("in_event", [True, False], ids=["in the event", "asked for"])
@pytest.mark.parametrize("status", FINAL)
def test_reports_how_a_build_ended(
    cloudformation: CloudFormation, services: Services, status: str, in_event: bool
) -> None:
    variables = _variables(cloudformation)
    if not in_event:
        build = {"environment": {**ENVIRONMENT, "environmentVariables": variables}}
        services["codebuild"].add_response(
            "batch_get_builds", {"builds": [build]}, {"ids": [f"{PROJECT}:0000-1"]}
        )
    if status != "SUCCEEDED":
        log(services, "[Container] Running command docker push", "denied: no basic auth credentials")
    handler.handle(ended(status, variables if in_event else None), Context())
    [answer] = cloudformation.answers
    assert answer["PhysicalResourceId"] == TAG
    assert answer["StackId"].endswith("tandem-serving/1")
    if status == "SUCCEEDED":
        assert (answer["Status"], answer["Reason"]) == ("SUCCESS", "")
    else:
        assert answer["Status"] == "FAILED"
        for part in (status, MESSAGE, "https://console.example.com/logs", "denied: no basic auth"):
            assert part in answer["Reason"]
        assert "[Container]" not in answer["Reason"]


def test_reason_holds_the_end_of_a_long_log(cloudformation: CloudFormation, services: Services) -> None:
    log(services, *(f"line {number} " + "\u00e9" * 1000 for number in range(100)), "no space left on device")
    handler.handle(ended("FAILED", _variables(cloudformation)), Context())
    [answer] = cloudformation.answers
    assert "no space left on device" in answer["Reason"]
    assert "line 0 " not in answer["Reason"]


def test_build_is_started_once_for_a_request(cloudformation: CloudFormation, services: Services) -> None:
    no_image(services)
    services["codebuild"].add_response(
        "start_build",
        {},
        {
            "projectName": PROJECT,
            "idempotencyToken": "request-1",
            "environmentVariablesOverride": _variables(cloudformation),
        },
    )
    handler.handle(request(cloudformation), Context())
    assert cloudformation.answers == []


def test_waits_for_the_builds_of_a_new_account(cloudformation: CloudFormation, services: Services) -> None:
    no_image(services)
    for _ in range(3):
        services["codebuild"].add_client_error("start_build", "AccountLimitExceededException")
    services["codebuild"].add_response("start_build", {})
    handler.handle(request(cloudformation), Context(280_000, 265_000, 250_000))
    assert cloudformation.answers == []


def test_gives_up_waiting_while_it_can_still_answer(
    cloudformation: CloudFormation, services: Services
) -> None:
    no_image(services)
    message = "Cannot have more than 1 builds in queue for the account"
    for _ in range(2):
        services["codebuild"].add_client_error("start_build", "AccountLimitExceededException", message)
    handler.handle(request(cloudformation), Context(280_000, 59_000))
    [answer] = cloudformation.answers
    assert answer["Status"] == "FAILED"
    assert message in answer["Reason"]
    assert "Deploy again" in answer["Reason"]


def test_answer_is_put_again_where_it_did_not_arrive(
    cloudformation: CloudFormation, services: Services
) -> None:
    cloudformation.statuses[:] = [500, 503]
    handler.handle(ended("SUCCEEDED", _variables(cloudformation)), Context())
    assert [answer["Status"] for answer in cloudformation.answers] == ["SUCCESS"]


def test_answer_that_nobody_waits_for_is_dropped(cloudformation: CloudFormation, services: Services) -> None:
    cloudformation.statuses[:] = [403]
    handler.handle(ended("SUCCEEDED", _variables(cloudformation)), Context())
    assert cloudformation.answers == []
    assert cloudformation.statuses == []


def test_build_that_was_started_by_hand_is_ignored(
    cloudformation: CloudFormation, services: Services
) -> None:
    build = {"environment": {**ENVIRONMENT, "environmentVariables": []}}
    services["codebuild"].add_response("batch_get_builds", {"builds": [build]})
    handler.handle(ended("FAILED"), Context())
    assert cloudformation.answers == []


class Failing:
    """A client of AWS whose every call fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.exceptions = mock.Mock(AccountLimitExceededException=_Limit, ImageNotFoundException=_NotFound)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**_: Any) -> Any:
            raise self._error

        return call


class _Limit(Exception):
    pass


class _NotFound(Exception):
    pass


def _client_error(code: str, message: str) -> Exception:
    return botocore.exceptions.ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


ERRORS = st.one_of(
    st.builds(
        lambda kind, text: kind(text),
        st.sampled_from(
            [ValueError, KeyError, OSError, RuntimeError, MemoryError, RecursionError, TypeError]
        ),
        st.text(max_size=6000),
    ),
    st.builds(_client_error, st.text(max_size=30), st.text(max_size=6000)),
    st.builds(botocore.exceptions.NoCredentialsError),
    st.builds(lambda: botocore.exceptions.ReadTimeoutError(endpoint_url="https://example.com")),
)


@settings(max_examples=200)
@given(
    error=ERRORS,
    missing=st.sampled_from(["", "Project", "Repository", "Source", "ImageTag"]),
    ends=st.booleans(),
)
def test_every_error_is_answered(server: CloudFormation, error: Exception, missing: str, ends: bool) -> None:
    """Whatever AWS or the request does, CloudFormation gets one answer that it accepts."""
    server.answers.clear()
    event = ended("FAILED", _variables(server)) if ends else request(server)
    if not ends:
        event["ResourceProperties"].pop(missing, None)
    with mock.patch.object(handler, "_client", return_value=Failing(error)):
        handler.handle(event, Context())
    [answer] = server.answers
    assert answer["Status"] == "FAILED"
    assert answer["Reason"]
    assert (answer["RequestId"], answer["LogicalResourceId"]) == ("request-1", "Image")


def test_error_before_the_request_is_known_is_raised_so_that_lambda_retries(
    cloudformation: CloudFormation, services: Services
) -> None:
    services["codebuild"].add_client_error("batch_get_builds", "InternalError")
    with pytest.raises(botocore.exceptions.ClientError):
        handler.handle(ended("FAILED"), Context())
