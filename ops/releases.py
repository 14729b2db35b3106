"""The releases before the deployed one, and the way back.

Before `make deploy` changes the serving stack, it keeps the stack's template in the bucket of
`cdk bootstrap`. The template names the images by their tags, which are never overwritten, and the packaged
sources by their hashes. So a rollback needs neither the sources of the release nor the CDK: it updates the
stack to that template.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from .account import Account, Failed, NotAllowed, translated
from .deploy import POLL_SECONDS, Progress, look
from .report import Result, Status, say

KEPT = 10
"""Releases that are kept; as many as images in a repository."""

_TOOLKIT = "CDKToolkit"
_TIME = "%Y%m%dT%H%M%SZ"
_STABLE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
_CHANGE_SET_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Release:
    """A kept template of the serving stack: its place in the bucket, its hash, and when it was deployed."""

    bucket: str
    key: str
    digest: str
    deployed: datetime


def keep(account: Account) -> None:
    """Keeps the deployed template, unless it is the newest one that is kept. A failure is only reported."""
    try:
        _keep(account)
    except (ClientError, NotAllowed, Failed) as error:
        say(f"  ? the release was not kept, so make rollback will not know it: {error}")


def _keep(account: Account) -> None:
    stack = account.described_stack(account.stack_names[1])
    if stack is None or stack["StackStatus"] not in _STABLE:
        return
    text = _template(account)
    digest = _digest(text)
    bucket = _bucket(account)
    releases = _releases(account, bucket)
    if releases and releases[-1].digest == digest:
        return
    deployed = stack.get("LastUpdatedTime", stack["CreationTime"]).astimezone(UTC)
    key = f"{_prefix(account)}{deployed:{_TIME}}-{digest}.json"
    s3 = account.client("s3")
    with translated():
        s3.put_object(Bucket=bucket, Key=key, Body=text.encode(), ContentType="application/json")
    for old in releases[: max(0, len(releases) + 1 - KEPT)]:
        with translated():
            s3.delete_object(Bucket=bucket, Key=old.key)


def forget(account: Account) -> None:
    """Deletes what was kept, if there is anything. A failure is only reported."""
    try:
        s3 = account.client("s3")
        for release in _releases(account, _bucket(account)):
            with translated():
                s3.delete_object(Bucket=release.bucket, Key=release.key)
    except (ClientError, NotAllowed, Failed) as error:
        say(f"  ? kept releases in the bucket of cdk bootstrap, below {_prefix(account)}, remain: {error}")


def previous(account: Account) -> Release:
    """Returns the newest release that differs from the deployed one.

    Raises:
        Failed: Nothing is deployed, the stack cannot be updated now, or no other release is kept.
    """
    serving = account.stack_names[1]
    stack = account.described_stack(serving)
    if stack is None:
        raise Failed(f"{serving} is not deployed in {account.region}; there is nothing to roll back")
    status = stack["StackStatus"]
    if status not in _STABLE:
        raise Failed(f"{serving} is {status} and cannot be rolled back now; make doctor says what to do")
    deployed = _digest(_template(account))
    others = [one for one in _releases(account, _bucket(account)) if one.digest != deployed]
    if not others:
        raise Failed(
            "no other release is kept: make deploy keeps the one that it replaces. To deploy an older "
            "version, check it out and run make deploy"
        )
    return others[-1]


def prepare(account: Account, release: Release) -> tuple[str, list[Result]]:
    """Creates a change set that returns the stack to the release; returns its ARN and what it changes.

    Raises:
        Failed: CloudFormation rejects it; nothing was changed.
    """
    serving = account.stack_names[1]
    formation = account.client("cloudformation")
    with translated():
        created = formation.create_change_set(
            StackName=serving,
            ChangeSetName=f"rollback-{datetime.now(UTC):%Y%m%d%H%M%S}",
            TemplateURL=_url(account, release),
            Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
            Parameters=_parameters(account, release),
        )
    arn: str = created["Id"]
    described = _wait_for_change_set(formation, arn)
    changes = [one["ResourceChange"] for one in described.get("Changes", [])]
    return arn, [
        Result(Status.WARNING, _action(one), f"{one['LogicalResourceId']} ({one['ResourceType']})")
        for one in changes
    ]


def execute(account: Account, change_set: str) -> None:
    """Executes the change set and watches it.

    Raises:
        Failed: The update failed; CloudFormation has returned to what was deployed.
    """
    serving = account.stack_names[1]
    with translated():
        account.client("cloudformation").execute_change_set(ChangeSetName=change_set)
    progress = Progress(account)
    while True:
        look(progress)
        stack = account.stack(serving)
        status = stack.status if stack else "DELETED"
        if status in ("UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"):
            return
        if not status.endswith("_IN_PROGRESS"):
            raise Failed(f"the rollback failed: {serving} is {status}. Run make doctor for details.")
        time.sleep(POLL_SECONDS)


def discard(account: Account, change_set: str) -> None:
    """Deletes a change set that is not executed."""
    with translated():
        account.client("cloudformation").delete_change_set(ChangeSetName=change_set)


def _wait_for_change_set(formation: Any, arn: str) -> Any:
    until = time.monotonic() + _CHANGE_SET_SECONDS
    while True:
        with translated():
            described = formation.describe_change_set(ChangeSetName=arn)
        if described["Status"] == "CREATE_COMPLETE":
            return described
        if described["Status"] == "FAILED" or time.monotonic() > until:
            with translated():
                formation.delete_change_set(ChangeSetName=arn)
            reason = described.get("StatusReason", described["Status"])
            raise Failed(f"CloudFormation cannot return to that release: {reason}. Nothing was changed.")
        time.sleep(1)


def _action(change: Any) -> str:
    action = str(change["Action"]).lower()
    return "replace" if change.get("Replacement") == "True" else {"modify": "update"}.get(action, action)


def _parameters(account: Account, release: Release) -> list[dict[str, Any]]:
    """The stack's parameters that the release has too, with the values that they have now."""
    with translated():
        body = account.client("s3").get_object(Bucket=release.bucket, Key=release.key)["Body"].read()
    known = json.loads(body).get("Parameters", {})
    stack = account.described_stack(account.stack_names[1])
    names = [one["ParameterKey"] for one in stack.get("Parameters", [])] if stack else []
    return [{"ParameterKey": name, "UsePreviousValue": True} for name in names if name in known]


def _url(account: Account, release: Release) -> str:
    suffix = "amazonaws.com.cn" if account.region.startswith("cn-") else "amazonaws.com"
    return f"https://s3.{account.region}.{suffix}/{release.bucket}/{release.key}"


def _prefix(account: Account) -> str:
    return f"releases/{account.stack_names[1]}/"


def _bucket(account: Account) -> str:
    toolkit = account.stack(_TOOLKIT)
    if toolkit is None or "BucketName" not in toolkit.outputs:
        raise Failed(f"the stack {_TOOLKIT} has no bucket; run npx cdk bootstrap")
    return toolkit.outputs["BucketName"]


def _releases(account: Account, bucket: str) -> list[Release]:
    """The kept releases, oldest first."""
    prefix = _prefix(account)
    with translated():
        pages = account.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = sorted(str(one["Key"]) for page in pages for one in page.get("Contents", []))
    found = []
    for key in keys:
        moment, _, digest = key.removeprefix(prefix).removesuffix(".json").partition("-")
        found.append(Release(bucket, key, digest, datetime.strptime(moment, _TIME).replace(tzinfo=UTC)))
    return found


def _template(account: Account) -> str:
    with translated():
        formation = account.client("cloudformation")
        body = formation.get_template(StackName=account.stack_names[1], TemplateStage="Original")[
            "TemplateBody"
        ]
    return body if isinstance(body, str) else json.dumps(body)


def _digest(text: str) -> str:
    """A hash of the template that does not depend on how it is written."""
    return hashlib.sha256(json.dumps(json.loads(text), sort_keys=True).encode()).hexdigest()[:16]
