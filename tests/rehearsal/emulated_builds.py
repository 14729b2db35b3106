"""CodeBuild's runs, which the emulator does not have, and the roles that they and others act with.

`build_runs.py` runs a build. This module writes its log and reports its end to EventBridge, as AWS does.

The emulator enforces the policies of roles: on what functions call, on the calls of a build, and on what is
called with the credentials that AssumeRole gives. The test's own credentials may do everything, and assume
every role in the name of the service that the role trusts.
"""

from __future__ import annotations

import contextvars
import json
import os
import threading
import time
from typing import Any

import ministack.core.iam_actions as iam_actions
import ministack.core.iam_evaluator as iam_evaluator
import ministack.services.cloudformation.provisioners as provisioners
import ministack.services.cloudwatch_logs as logs
import ministack.services.codebuild as codebuild
import ministack.services.eventbridge as eventbridge
from ministack.core.responses import error_response_json, get_region

from tests.rehearsal import build_runs

Properties = dict[str, Any]
_ACCOUNT = os.environ["MINISTACK_ACCOUNT_ID"]


def extend() -> None:
    """Adds builds to the emulator, and lets the test assume roles."""
    codebuild._start_build = _start
    provisioners._RESOURCE_HANDLERS["AWS::CodeBuild::Project"]["create"] = _create_project
    iam_evaluator.evaluate_trust_policy = _trusted
    iam_actions.extract_resource_arn = _resource
    # What would be HTTPS; policies deny anything else.
    iam_evaluator._resolve_condition_key = _condition_key


def answered(response: tuple[int, Any, Any]) -> str:
    """The body of a service's answer.

    Raises:
        ValueError: the service refused.
    """
    status, _, body = response
    text = body.decode() if isinstance(body, bytes) else str(body)
    if status >= 400:
        raise ValueError(text)
    return text


_start_build = codebuild._start_build


_RUNNING: set[str] = set()
_LOG_GROUPS: dict[str, str] = {}
_create = provisioners._RESOURCE_HANDLERS["AWS::CodeBuild::Project"]["create"]


def _create_project(logical_id: str, properties: Properties, stack: str) -> Any:
    """Remembers the log group of a project, which the emulator drops."""
    name, attributes = _create(logical_id, properties, stack)
    _LOG_GROUPS[name] = properties["LogsConfig"]["CloudWatchLogs"]["GroupName"]
    return name, attributes


def _start(data: Properties) -> Any:
    """Starts a build; as in a new account, no other can be started before its end is reported."""
    if _RUNNING:
        return error_response_json(
            "AccountLimitExceededException", "Cannot have more than 1 builds in queue for the account", 400
        )
    response = _start_build(data)
    build_id = json.loads(answered(response))["build"]["id"]
    build = codebuild._builds[build_id]
    build["buildStatus"] = "IN_PROGRESS"
    build["environment"] = dict(build["environment"])
    build["environment"]["environmentVariables"] = [
        *build["environment"].get("environmentVariables", []),
        *data.get("environmentVariablesOverride", []),
    ]
    _RUNNING.add(build_id)
    context = contextvars.copy_context()
    # After the function that starts the build has ended, as in AWS.
    threading.Timer(0.3, context.run, (_finish, build_id, data["projectName"])).start()
    return response


def _finish(build_id: str, name: str) -> None:
    """Runs a build to its end, and reports that."""
    build, project = codebuild._builds[build_id], codebuild._projects[name]
    variables = {entry["name"]: entry["value"] for entry in build["environment"]["environmentVariables"]}
    group, stream = _LOG_GROUPS[name], build_id.partition(":")[2]
    calls = _build_calls(variables, f"log-group:{group}:log-stream:{stream}")
    denied = [call for call in calls if not _allowed(project["serviceRole"], *call)]
    if denied:
        log = [f"AccessDenied: the role of the build may not {denied[0][0]} on {denied[0][1]}"]
        status = "FAILED"
    else:
        status, log = build_runs.outcome(project["source"]["buildspec"], variables)
    build["buildStatus"] = status
    _write_log(group, stream, log)
    detail = {
        "build-id": f"arn:aws:codebuild:{get_region()}:{_ACCOUNT}:build/{build_id}",
        "project-name": name,
        "build-status": status,
        "additional-information": {
            "environment": {"environment-variables": project["environment"].get("environmentVariables", [])},
            "phases": [{"phase-type": "BUILD", "phase-context": ["COMMAND_EXECUTION_ERROR: exit status 1"]}],
            "logs": {"group-name": group, "stream-name": stream, "deep-link": "https://console.example.com"},
        },
    }
    event = {
        "Source": "aws.codebuild",
        "DetailType": "CodeBuild Build State Change",
        "Detail": json.dumps(detail),
    }
    _RUNNING.discard(build_id)
    eventbridge._put_events({"Entries": [event]}, True)


def _write_log(group: str, stream: str, lines: list[str]) -> None:
    answered(logs._create_log_stream({"logGroupName": group, "logStreamName": stream}))
    now = int(time.time() * 1000)
    events = [{"timestamp": now, "message": f"{line}\n"} for line in lines]
    answered(logs._put_log_events({"logGroupName": group, "logStreamName": stream, "logEvents": events}))


def _build_calls(variables: Properties, stream: str) -> list[tuple[str, str]]:
    """What CodeBuild and the commands of a build call: actions with their resources."""
    here = f"{get_region()}:{_ACCOUNT}"
    calls = [
        ("logs:CreateLogStream", f"arn:aws:logs:{here}:{stream}"),
        ("logs:PutLogEvents", f"arn:aws:logs:{here}:{stream}"),
        ("s3:GetObject", f"arn:aws:s3:::{variables['SOURCE']}"),
    ]
    if "TARGET" in variables:
        return [*calls, *_mirror_calls(variables)]
    repository = f"arn:aws:ecr:{here}:repository/{variables['REPOSITORY_URI'].partition('/')[2]}"
    pushes = ("BatchCheckLayerAvailability", "InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload")
    return [
        *calls,
        ("ecr:GetAuthorizationToken", "*"),
        *((f"ecr:{action}", repository) for action in (*pushes, "PutImage")),
    ]


def _mirror_calls(variables: Properties) -> list[tuple[str, str]]:
    """What a build calls that copies a model: it reads its token, looks for files, and writes them."""
    place = variables["TARGET"].removeprefix("s3://")
    token = variables.get("HF_TOKEN")
    return [
        *([("secretsmanager:GetSecretValue", token)] if token else []),
        ("s3:ListBucket", f"arn:aws:s3:::{place.partition('/')[0]}"),
        *((f"s3:{action}", f"arn:aws:s3:::{place}/config.json") for action in ("GetObject", "PutObject")),
        ("s3:AbortMultipartUpload", f"arn:aws:s3:::{place}/config.json"),
    ]


def _allowed(role: str, action: str, resource: str) -> bool:
    """Whether the policies of a role allow a call."""
    context = iam_evaluator.EvalContext(role, "AssumedRole", _ACCOUNT, action, resource, get_region())
    policies = iam_evaluator._gather_role_policies(role.rpartition("/")[2], _ACCOUNT)
    return bool(iam_evaluator.evaluate(context, policies).decision == "Allow")


_extract_resource = iam_actions.extract_resource_arn


def _resource(
    service: str, method: str, path: str, headers: dict[str, str], body: bytes, *others: Any
) -> str:
    """The resource of a request, also where the emulator takes less of it than AWS."""
    resource = str(_extract_resource(service, method, path, headers, body, *others))
    asked = json.loads(body) if service in ("codebuild", "logs") and body else {}
    if ids := asked.get("ids"):
        return f"arn:aws:codebuild:{get_region()}:{_ACCOUNT}:project/{ids[0].partition(':')[0]}"
    if stream := asked.get("logStreamName"):
        return f"{resource}:log-stream:{stream}"
    return resource


_resolve_key = iam_evaluator._resolve_condition_key


def _condition_key(key: str, context: Any) -> Any:
    return "true" if key.lower() == "aws:securetransport" else _resolve_key(key, context)


_evaluate_trust = iam_evaluator.evaluate_trust_policy


def _trusted(trust: Any, caller: str, *others: Any, **named: Any) -> bool:
    """Whether a caller may assume a role; the test may, as the service that the role trusts."""
    if caller == f"arn:aws:iam::{_ACCOUNT}:root" and "amazonaws.com" in json.dumps(trust):
        return True
    return bool(_evaluate_trust(trust, caller, *others, **named))
