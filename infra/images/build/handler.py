"""Builds a container image while CloudFormation waits.

Invoked twice per image: by CloudFormation, to start a build in CodeBuild, and by EventBridge when the build
has ended, to report the result to CloudFormation. An existing image is not built again: tags are immutable,
and a rollback asks for the tag of the previous release.
"""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import Mapping
from typing import Any

import boto3

Event = dict[str, Any]


def handle(event: Event, _context: object) -> None:
    """Entry point of the Lambda function."""
    if "RequestType" not in event:
        _finish(event["detail"]["build-id"])
        return
    try:
        waiting = _request(event)
    except Exception as error:  # CloudFormation waits for an answer in any case
        logging.exception("could not start the build")
        _answer(event, event.get("PhysicalResourceId", "failed"), f"{type(error).__name__}: {error}")
        return
    if not waiting:
        _answer(event, event.get("PhysicalResourceId") or _tag(event))


def _tag(event: Event) -> str:
    return str(event["ResourceProperties"]["ImageTag"])


def _request(event: Event) -> bool:
    """Handles CloudFormation's request; returns whether a build was started that will answer it."""
    properties = event["ResourceProperties"]
    if event["RequestType"] == "Delete":
        return False
    if _exists(properties["Repository"], properties["ImageTag"]):
        event["PhysicalResourceId"] = _tag(event)
        return False
    variables = {
        "SOURCE": properties["Source"],
        "IMAGE_TAG": properties["ImageTag"],
        "RESPONSE_URL": event["ResponseURL"],
        "STACK_ID": event["StackId"],
        "REQUEST_ID": event["RequestId"],
        "LOGICAL_RESOURCE_ID": event["LogicalResourceId"],
    }
    boto3.client("codebuild").start_build(
        projectName=properties["Project"],
        environmentVariablesOverride=[
            {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in variables.items()
        ],
    )
    return True


def _exists(repository: str, tag: str) -> bool:
    registry = boto3.client("ecr")
    try:
        found = registry.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except registry.exceptions.ImageNotFoundException:
        return False
    return bool(found["imageDetails"])


def _finish(build_id: str) -> None:
    build = boto3.client("codebuild").batch_get_builds(ids=[build_id])["builds"][0]
    variables = {entry["name"]: entry["value"] for entry in build["environment"]["environmentVariables"]}
    if "RESPONSE_URL" not in variables:
        return
    request = {
        "ResponseURL": variables["RESPONSE_URL"],
        "StackId": variables["STACK_ID"],
        "RequestId": variables["REQUEST_ID"],
        "LogicalResourceId": variables["LOGICAL_RESOURCE_ID"],
    }
    _answer(request, variables["IMAGE_TAG"], _failure(build))


def _failure(build: Mapping[str, Any]) -> str | None:
    """Returns why the build failed; None if it succeeded."""
    if build["buildStatus"] == "SUCCEEDED":
        return None
    messages = [
        context["message"]
        for phase in build.get("phases", [])
        for context in phase.get("contexts", [])
        if context.get("message")
    ]
    logs = build.get("logs", {}).get("deepLink", "the log group of the project")
    return f"The image build ended with {build['buildStatus']}: {' '.join(messages)} Logs: {logs}"


def _answer(request: Event, physical_id: str, failure: str | None = None) -> None:
    body = {
        "Status": "FAILED" if failure else "SUCCESS",
        "Reason": (failure or "")[:1000],
        "PhysicalResourceId": physical_id,
        "StackId": request["StackId"],
        "RequestId": request["RequestId"],
        "LogicalResourceId": request["LogicalResourceId"],
    }
    answer = urllib.request.Request(  # noqa: S310 - CloudFormation's URL
        request["ResponseURL"], data=json.dumps(body).encode(), method="PUT", headers={"Content-Type": ""}
    )
    urllib.request.urlopen(answer, timeout=30).close()  # noqa: S310
