"""Keeping releases and going back, with a stack and a bucket in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops import releases
from ops.account import Failed
from tests.ops.scripted_aws import Refused, ScriptedAccount, account

STACK = "tandem-serving"
BUCKET = "cdk-hnb659fds-assets-123456789012-us-east-1"
Given = Mapping[str, Any]


def template(*topics: str) -> dict[str, Any]:
    resources = {name: {"Type": "AWS::SNS::Topic"} for name in topics}
    return {"Parameters": {"Size": {"Type": "String"}}, "Resources": resources}


class Aws:
    """A serving stack and the bucket of `cdk bootstrap`."""

    def __init__(self) -> None:
        self.deployed: dict[str, Any] | None = template("First")
        self.status = "CREATE_COMPLETE"
        self.after_update = "UPDATE_COMPLETE"
        self.updated = datetime(2026, 1, 1, tzinfo=UTC)
        self.bucket: str | None = BUCKET
        self.objects: dict[str, bytes] = {}
        self.change_sets: dict[str, dict[str, Any]] = {}
        self.rejected: str | None = None
        self.account: ScriptedAccount = account(
            {
                "cloudformation.DescribeStacks": self._stacks,
                "cloudformation.GetTemplate": lambda _: {"TemplateBody": json.dumps(self.deployed)},
                "cloudformation.CreateChangeSet": self._create,
                "cloudformation.DescribeChangeSet": self._describe,
                "cloudformation.DeleteChangeSet": self._delete,
                "cloudformation.ExecuteChangeSet": self._execute,
                "s3.PutObject": self._put,
                "s3.GetObject": lambda given: {"Body": io.BytesIO(self.objects[given["Key"]])},
                "s3.ListObjectsV2": self._list,
                "s3.DeleteObject": lambda given: self.objects.pop(given["Key"]) and {},
            }
        )

    def update(self, body: dict[str, Any]) -> None:
        self.deployed = body
        self.status = self.after_update
        self.updated += timedelta(hours=1)

    def _stacks(self, given: Given) -> Any:
        exists = self.bucket if given["StackName"] == "CDKToolkit" else self.deployed
        if not exists:
            raise Refused("ValidationError", f"Stack with id {given['StackName']} does not exist")
        return {
            "Stacks": [
                {
                    "StackName": given["StackName"], "StackStatus": self.status, "CreationTime": self.updated,
                    "Outputs": [{"OutputKey": "BucketName", "OutputValue": self.bucket or ""}],
                    "Parameters": [{"ParameterKey": name} for name in ("Size", "Gone")],
                }
            ]
        }  # fmt: skip

    def _create(self, given: Given) -> Any:
        prefix = f"https://s3.us-east-1.amazonaws.com/{BUCKET}/"
        assert given["TemplateURL"].startswith(prefix)
        self.change_sets["cs"] = json.loads(self.objects[given["TemplateURL"].removeprefix(prefix)])
        return {"Id": "cs", "StackId": STACK}

    def _describe(self, _: Given) -> Any:
        if self.rejected:
            return {"Status": "FAILED", "StatusReason": self.rejected}
        assert self.deployed
        old, new = set(self.deployed["Resources"]), set(self.change_sets["cs"]["Resources"])
        changes = [("Remove", name) for name in old - new] + [("Add", name) for name in new - old]
        found = [
            {
                "ResourceChange": {
                    "Action": action,
                    "LogicalResourceId": name,
                    "ResourceType": "AWS::SNS::Topic",
                }
            }
            for action, name in changes
        ]
        return {"Status": "CREATE_COMPLETE", "Changes": found}

    def _delete(self, _: Given) -> Any:
        del self.change_sets["cs"]
        return {}

    def _execute(self, _: Given) -> Any:
        self.update(self.change_sets.pop("cs"))
        return {}

    def _put(self, given: Given) -> Any:
        self.objects[given["Key"]] = given["Body"].read()
        return {}

    def _list(self, given: Given) -> Any:
        return {"Contents": [{"Key": key} for key in self.objects if key.startswith(given["Prefix"])]}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    monkeypatch.setattr(releases, "POLL_SECONDS", 0.0)
    return Aws()


def deploy(aws: Aws, *topics: str) -> None:
    """A release by `make deploy`: keeps what is deployed, and replaces it."""
    releases.keep(aws.account)
    aws.update(template(*topics))


def deployed(aws: Aws) -> set[str]:
    assert aws.deployed
    return set(aws.deployed["Resources"])


def roll_back(aws: Aws) -> list[str]:
    change_set, changes = releases.prepare(aws.account, releases.previous(aws.account))
    releases.keep(aws.account)
    releases.execute(aws.account, change_set)
    return [f"{one.subject} {one.found}" for one in changes]


def test_rollback_returns_to_the_release_before(aws: Aws) -> None:
    deploy(aws, "First", "Second")
    assert deployed(aws) == {"First", "Second"}
    assert roll_back(aws) == ["remove Second (AWS::SNS::Topic)"]
    assert deployed(aws) == {"First"}
    (created,) = [given for name, given in aws.account.aws.calls if name.endswith("CreateChangeSet")]
    assert created["Parameters"] == [{"ParameterKey": "Size", "UsePreviousValue": True}]


def test_rollback_of_a_rollback_returns_to_the_newer_release(aws: Aws) -> None:
    deploy(aws, "First", "Second")
    roll_back(aws)
    assert roll_back(aws) == ["add Second (AWS::SNS::Topic)"]
    assert deployed(aws) == {"First", "Second"}


def test_deployment_that_changed_nothing_or_failed_adds_no_release(aws: Aws) -> None:
    deploy(aws, "First", "Second")
    releases.keep(aws.account)  # a deployment that fails afterwards leaves what was deployed
    releases.keep(aws.account)
    assert releases.previous(aws.account).digest == releases._digest(json.dumps(template("First")))
    assert len(list(aws.objects)) == 2


def test_oldest_releases_are_deleted(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "KEPT", 2)
    for number in range(4):
        deploy(aws, f"Topic{number}")
    assert len(list(aws.objects)) == 2
    releases.forget(aws.account)
    assert list(aws.objects) == []


def test_without_an_earlier_release_the_message_says_how_to_deploy_one(aws: Aws) -> None:
    with pytest.raises(Failed, match="check it out and run make deploy"):
        releases.previous(aws.account)
    releases.keep(aws.account)
    with pytest.raises(Failed, match="no other release is kept"):
        releases.previous(aws.account)


def test_stack_that_cannot_be_updated_now_is_left_alone(
    aws: Aws,
) -> None:
    deploy(aws, "Second")
    aws.status = "UPDATE_IN_PROGRESS"
    with pytest.raises(Failed, match="UPDATE_IN_PROGRESS and cannot be rolled back now"):
        releases.previous(aws.account)
    aws.deployed = None
    with pytest.raises(Failed, match="nothing to roll back"):
        releases.previous(aws.account)


@pytest.mark.parametrize("status", ["UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED"])
def test_rollback_that_fails_is_reported(aws: Aws, status: str) -> None:
    deploy(aws, "First", "Second")
    aws.after_update = status
    with pytest.raises(Failed, match=f"{STACK} is {status}"):
        roll_back(aws)


def test_release_that_cloudformation_rejects_changes_nothing(aws: Aws) -> None:
    deploy(aws, "First", "Second")
    aws.rejected = "No export named Vpc found"
    with pytest.raises(Failed, match=r"No export named Vpc found\. Nothing was changed"):
        roll_back(aws)
    assert (aws.change_sets, deployed(aws)) == ({}, {"First", "Second"})


def test_release_that_cannot_be_kept_stops_no_deployment(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.bucket = None
    releases.keep(aws.account)
    assert "make rollback will not know it" in capsys.readouterr().err


def test_kept_releases_that_cannot_be_deleted_are_reported(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy(aws, "Second")
    aws.account.aws.answers["s3.DeleteObject"] = Refused("AccessDenied")
    releases.forget(aws.account)
    assert f"below releases/{STACK}/, remain: no permission for" in capsys.readouterr().err


def test_discarded_change_set_changes_nothing(aws: Aws) -> None:
    deploy(aws, "First", "Second")
    change_set, _ = releases.prepare(aws.account, releases.previous(aws.account))
    releases.discard(aws.account, change_set)
    assert deployed(aws) == {"First", "Second"}
    assert aws.change_sets == {}
