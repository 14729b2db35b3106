"""What doctor reports about the deployment file, the credentials and what they need in the account."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ops.doctor import identity
from ops.report import Status
from tests.ops.scripted_aws import ARN, Answer, Refused, account, roles_without

from .expectations import SECRET, expect

IDENTITY: dict[str, Answer] = {
    "sts.GetCallerIdentity": {"UserId": "u", "Account": "123456789012", "Arn": ARN},
}

POLICY = "arn:aws:iam::123456789012:policy/developers"


def test_file_is_checked_as_in_synthesis() -> None:
    (result,) = identity.check_file(account({}))
    expect(result, Status.OK, "no problems found")
    (queue,) = identity.check_file(account({}, model__max_num_seqs=128))
    expect(queue, Status.WARNING, "never runs the 128 concurrent requests", "model.max_num_queued_reqs")
    results = identity.check_file(account({}, model__max_model_len=40_000))
    assert any(result.status is Status.ERROR and "model.max_model_len" in result.found for result in results)


def test_identity_is_reported() -> None:
    expect(identity.check_identity(account(IDENTITY))[0], Status.OK, ARN)


@pytest.mark.parametrize(
    ("version", "mark", "found"),
    [
        ("31", Status.OK, "version 31"),
        ("5", Status.ERROR, "version 5; at least 6"),
        (None, Status.ERROR, "not bootstrapped"),
    ],
)
def test_bootstrap(version: str | None, mark: Status, found: str) -> None:
    answer: Answer = {"Parameter": {"Value": version}} if version else Refused("ParameterNotFound")
    (result,) = identity.check_bootstrap(account({**IDENTITY, "ssm.GetParameter": answer}))
    expect(result, mark, found, "" if mark is Status.OK else "npx cdk bootstrap aws://123456789012/us-east-1")


@pytest.mark.parametrize(
    ("answer", "mark", "found", "fix"),
    [
        ({"Name": "token"}, Status.OK, "token", ""),
        (Refused("ResourceNotFoundException"), Status.ERROR, "does not exist", "create-secret"),
        (
            {"Name": "token", "DeletedDate": datetime.now(UTC)},
            Status.ERROR,
            "being deleted",
            "restore-secret",
        ),
    ],
)
def test_secrets(answer: Answer, mark: Status, found: str, fix: str) -> None:
    one = account({"secretsmanager.DescribeSecret": answer}, model__hf_token_secret_arn=SECRET)
    expect(identity.check_secrets(one)[0], mark, found, fix)
    assert identity.check_secrets(account({}))[0].status is Status.OK


def test_token_of_every_model_is_checked() -> None:
    models = {"main": {}, "small": {"id": "acme/small", "hf_token_secret_arn": SECRET}}
    one = account({"secretsmanager.DescribeSecret": Refused("ResourceNotFoundException")}, models=models)
    (result,) = identity.check_secrets(one)
    expect(result, Status.ERROR, "models.small.hf_token_secret_arn", "set models.small.hf_token_secret_arn")


def test_secrets_of_tools_are_checked_and_so_is_their_key() -> None:
    described: Answer = {"Name": "crm", "KmsKeyId": "arn:aws:kms:us-east-1:123456789012:key/1"}
    one = account(
        {"secretsmanager.DescribeSecret": described},
        tools__secrets={"CRM_TOKEN": {"arn": SECRET, "json_key": "token"}},
    )
    expect(identity.check_secrets(one)[0], Status.WARNING, "tools.secrets.CRM_TOKEN", "kms:Decrypt")


@pytest.mark.parametrize(
    ("setting", "value"), [("permissions_boundary_arn", POLICY), ("tools__policy_arns", [POLICY])]
)
def test_policies_exist(setting: str, value: object) -> None:
    exists: Answer = {"Policy": {"PolicyName": "developers", "Arn": POLICY}}
    (result,) = identity.check_policies(account({"iam.GetPolicy": exists}, **{setting: value}))
    expect(result, Status.OK, "developers")
    missing: Answer = Refused("NoSuchEntity")
    (result,) = identity.check_policies(account({"iam.GetPolicy": missing}, **{setting: value}))
    expect(result, Status.ERROR, f"{POLICY} does not exist", "list-policies")


def test_no_policies_are_nothing_to_check() -> None:
    assert identity.check_policies(account({}))[0].status is Status.OK


def test_service_roles_that_do_not_exist_are_reported_with_the_command() -> None:
    absent = "AWSServiceRoleForECS"
    (result,) = identity.check_service_roles(account({"iam.GetRole": roles_without(absent)}))
    expect(result, Status.WARNING, absent, "create-service-linked-role --aws-service-name ecs.amazonaws.com")
    (all_there,) = identity.check_service_roles(account({"iam.GetRole": roles_without()}))
    assert all_there.status is Status.OK
