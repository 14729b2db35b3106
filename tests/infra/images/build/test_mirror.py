"""The function that builds images also mirrors a model, whose resource is called by its place."""

from __future__ import annotations

from typing import Any

import pytest

from infra.images.build import handler

from .test_handler import (
    PROJECT,
    CloudFormation,
    Context,
    Services,
    aws,
    builds,
    cloudformation,
    ended,
    log,
    no_waiting,
    request,
    server,
    services,
)

__all__ = ["aws", "cloudformation", "no_waiting", "server", "services"]  # fixtures
TARGET = "s3://tandem-models-123456789012-us-east-1/Qwen/Qwen2.5-7B-Instruct/main"


def mirror(cloudformation: CloudFormation, kind: str = "Create", target: str = TARGET) -> dict[str, Any]:
    """Returns a request for a mirror, which has neither a repository nor a tag."""
    event = request(cloudformation, kind)
    event["ResourceProperties"] = {"Project": PROJECT, "Source": "assets/x.zip", "Target": target}
    return event


def variables(event: dict[str, Any]) -> list[dict[str, str]]:
    """Returns what the build of a mirror is started with."""
    values = {
        "SOURCE": "assets/x.zip",
        "IMAGE_TAG": event["ResourceProperties"]["Target"],
        "RESPONSE_URL": event["ResponseURL"],
        "STACK_ID": event["StackId"],
        "REQUEST_ID": event["RequestId"],
        "LOGICAL_RESOURCE_ID": event["LogicalResourceId"],
    }
    return [{"name": name, "value": value, "type": "PLAINTEXT"} for name, value in values.items()]


@pytest.mark.parametrize(("kind", "target"), [("Create", TARGET), ("Update", f"{TARGET}-2")])
def test_mirror_is_built_without_a_look_at_a_registry(
    cloudformation: CloudFormation, services: Services, kind: str, target: str
) -> None:
    event = mirror(cloudformation, kind, target) | {"PhysicalResourceId": TARGET}
    services["codebuild"].add_response(
        "start_build",
        {},
        {
            "projectName": PROJECT,
            "idempotencyToken": "request-1",
            "environmentVariablesOverride": variables(event),
        },
    )
    handler.handle(event, Context())
    assert cloudformation.answers == []


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_end_of_a_mirror_is_reported_with_its_place(
    cloudformation: CloudFormation, services: Services, status: str
) -> None:
    if status == "FAILED":
        log(services, "HubError: model.safetensors: the Hub says one hash, and the file has another")
    handler.handle(ended(status, variables(mirror(cloudformation))), Context())
    [answer] = cloudformation.answers
    assert answer["PhysicalResourceId"] == TARGET
    assert answer["Status"] == ("SUCCESS" if status == "SUCCEEDED" else "FAILED")
    assert ("HubError" in answer["Reason"]) == (status == "FAILED")


@pytest.mark.usefixtures("aws")
def test_deleting_a_mirror_starts_nothing(cloudformation: CloudFormation) -> None:
    handler.handle(mirror(cloudformation, "Delete") | {"PhysicalResourceId": TARGET}, Context())
    assert [(one["Status"], one["PhysicalResourceId"]) for one in cloudformation.answers] == [
        ("SUCCESS", TARGET)
    ]
    assert builds() == []


@pytest.mark.usefixtures("aws")
def test_mirror_without_a_target_is_reported(cloudformation: CloudFormation) -> None:
    event = mirror(cloudformation)
    del event["ResourceProperties"]["Target"]
    handler.handle(event, Context())
    [answer] = cloudformation.answers
    assert answer["Status"] == "FAILED"
    assert "Target" in answer["Reason"]
