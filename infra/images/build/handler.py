"""Builds a container image, or mirrors a model, while CloudFormation waits.

Invoked twice per image: by CloudFormation, to start a build in CodeBuild, and by EventBridge when the
build has ended, to report the result to CloudFormation. An image that exists is not built again: tags are
immutable, and a rollback asks for the tag of the previous release. A mirror skips the files that it has.

CloudFormation waits for an answer for up to an hour, so every error is reported to it. An error that leaves
nobody to report to is raised: Lambda then invokes the function again.
"""

from __future__ import annotations

import json
import logging
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError

import boto3
from botocore.config import Config

Event = dict[str, Any]

RESPONSE_BYTES = 4096
"""Largest answer that CloudFormation accepts."""

LOG_LINES = 20
_LINE = 400
START_RETRY_SECONDS = 15.0
ANSWER_RETRY_SECONDS = 2.0
_ANSWER_ATTEMPTS = 4
# What one more attempt to start a build, and an answer, take at most.
_RESERVED_MILLISECONDS = 60_000
_AWS = Config(connect_timeout=5, read_timeout=15, retries={"mode": "standard", "max_attempts": 4})


def handle(event: Event, context: Any) -> None:
    """Entry point of the Lambda function."""
    if "RequestType" in event:
        _report(event, lambda: _start(event, context))
    elif (request := _waiting_request(event["detail"])) is not None:
        _report(request, lambda: _result(request, event["detail"]))


def _report(request: Event, act: Callable[[], Event | None]) -> None:
    """Answers with what `act` returns, or with its error; None leaves the answer to the end of a build."""
    try:
        answer = act()
    except Exception as error:
        logging.exception("the request failed")
        answer = _failure(request, f"{type(error).__name__}: {error}")
    if answer is not None:
        _send(request, answer)


def _start(event: Event, context: Any) -> Event | None:
    """Acts on a request of CloudFormation."""
    properties = event["ResourceProperties"]
    if event["RequestType"] == "Delete":
        return _success(event, event["PhysicalResourceId"])
    tag = properties.get("ImageTag")
    if tag and _exists(properties["Repository"], tag):
        return _success(event, tag)
    variables = {
        "SOURCE": properties["Source"],
        # What the resource is then called by: the image's tag, or the place of a mirror.
        "IMAGE_TAG": tag or properties["Target"],
        "RESPONSE_URL": event["ResponseURL"],
        "STACK_ID": event["StackId"],
        "REQUEST_ID": event["RequestId"],
        "LOGICAL_RESOURCE_ID": event["LogicalResourceId"],
    }
    _start_build(properties["Project"], variables, context)
    return None


def _start_build(project: str, variables: Mapping[str, str], context: Any) -> None:
    """Starts a build, and waits while the account runs as many builds as it may: a new one runs one."""
    client = _client("codebuild")
    while True:
        try:
            client.start_build(
                projectName=project,
                # Lambda may invoke the function again for the same request.
                idempotencyToken=variables["REQUEST_ID"],
                environmentVariablesOverride=[
                    {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in variables.items()
                ],
            )
            return
        except client.exceptions.AccountLimitExceededException as error:
            if context.get_remaining_time_in_millis() < _RESERVED_MILLISECONDS:
                raise RuntimeError(
                    f"CodeBuild started no build of {project}: {error}. "
                    "Deploy again when the account's other builds have ended."
                ) from error
            time.sleep(START_RETRY_SECONDS)


def _exists(repository: str, tag: str) -> bool:
    registry = _client("ecr")
    try:
        found = registry.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except registry.exceptions.ImageNotFoundException:
        return False
    return bool(found["imageDetails"])


def _waiting_request(detail: Event) -> Event | None:
    """The request that waits for the build of an event; None if the build was started by hand."""
    variables = _variables(detail)
    if "RESPONSE_URL" not in variables:
        return None
    return {
        "ResponseURL": variables["RESPONSE_URL"],
        "StackId": variables["STACK_ID"],
        "RequestId": variables["REQUEST_ID"],
        "LogicalResourceId": variables["LOGICAL_RESOURCE_ID"],
        "PhysicalResourceId": variables["IMAGE_TAG"],
    }


def _variables(detail: Event) -> Mapping[str, str]:
    """The variables of a build: those in its event, or CodeBuild's where the event lacks the request's."""
    environment = detail.get("additional-information", {}).get("environment", {})
    listed = environment.get("environment-variables") or []
    if all(entry["name"] != "RESPONSE_URL" for entry in listed):
        # The event names the build by its ARN, which ends with the id: `build/PROJECT:UUID`.
        build_id = detail["build-id"].rpartition("build/")[2]
        [build] = _client("codebuild").batch_get_builds(ids=[build_id])["builds"]
        listed = build["environment"]["environmentVariables"]
    return {entry["name"]: entry["value"] for entry in listed}


def _result(request: Event, detail: Event) -> Event:
    if detail["build-status"] == "SUCCEEDED":
        return _success(request, request["PhysicalResourceId"])
    information = detail.get("additional-information", {})
    contexts = [text for phase in information.get("phases", []) for text in phase.get("phase-context") or []]
    messages = [text.strip() for text in contexts if text and text.strip(" :")]
    logs = information.get("logs", {})
    summary = f"The build ended with {detail['build-status']}. Log: {logs.get('deep-link')}"
    return _failure(request, summary, [*_last_lines(logs), *messages])


def _last_lines(logs: Mapping[str, str]) -> list[str]:
    """The last lines that the commands of a build wrote."""
    group, stream = logs.get("group-name"), logs.get("stream-name")
    if not group or not stream:
        return []
    try:
        page = _client("logs").get_log_events(logGroupName=group, logStreamName=stream, limit=100)
    except Exception as error:  # the result of the build is known without its log
        logging.exception("the log of the build cannot be read")
        return [f"Its log cannot be read: {type(error).__name__}: {error}"]
    lines = [event["message"].rstrip() for event in page["events"]]
    # CodeBuild's own lines repeat the messages of the phases.
    return [line for line in lines if line and not line.startswith("[Container]")][-LOG_LINES:]


def _success(request: Event, physical_id: str) -> Event:
    return _answer(request, "SUCCESS", physical_id, "")


def _failure(request: Event, summary: str, lines: Sequence[str] = ()) -> Event:
    """The answer that something failed, with as many of the last lines as CloudFormation accepts."""
    texts = [summary[:_LINE], *(line[-_LINE:] for line in lines)]
    while True:
        answer = _answer(request, "FAILED", request.get("PhysicalResourceId", "failed"), "\n".join(texts))
        if len(json.dumps(answer)) <= RESPONSE_BYTES or len(texts) == 1:
            return answer
        del texts[1]


def _answer(request: Event, status: str, physical_id: str, reason: str) -> Event:
    return {
        "Status": status,
        "Reason": reason,
        "PhysicalResourceId": physical_id,
        "StackId": request["StackId"],
        "RequestId": request["RequestId"],
        "LogicalResourceId": request["LogicalResourceId"],
    }


def _send(request: Event, answer: Event) -> None:
    """Puts an answer where CloudFormation waits for it."""
    put = urllib.request.Request(  # noqa: S310 - a URL of CloudFormation's
        request["ResponseURL"], data=json.dumps(answer).encode(), method="PUT", headers={"Content-Type": ""}
    )
    for attempt in range(1, _ANSWER_ATTEMPTS + 1):
        try:
            urllib.request.urlopen(put, timeout=10).close()  # noqa: S310
            return
        except (OSError, HTTPException) as error:
            if isinstance(error, HTTPError) and error.code < 500:
                logging.warning("CloudFormation does not wait for this answer any more: %s", error)
                return
            if attempt == _ANSWER_ATTEMPTS:
                raise
            time.sleep(ANSWER_RETRY_SECONDS)


def _client(service: str) -> Any:
    return boto3.client(service, config=_AWS)  # type: ignore[call-overload]
