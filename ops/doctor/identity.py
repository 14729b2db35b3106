"""Checks the deployment file, the credentials, and the account's prerequisites."""

from __future__ import annotations

from botocore.exceptions import ClientError

from infra.deployment.checks import check
from infra.deployment.checks.rule import Severity
from ops import service_roles
from ops.account import Account, code_of, translated
from ops.report import Result, Status

BOOTSTRAP_VERSION = 6
"""Minimum version that aws-cdk-lib 2 requires (`BootstrapVersion` in cdk.out/*.assets.json)."""

_PERMISSIONS = "permissions"
_DEFAULT_KEY = "alias/aws/secretsmanager"
_VERSION_PARAMETER = "/cdk-bootstrap/hnb659fds/version"


def check_file(account: Account) -> list[Result]:
    """Checks the file as synthesis would."""
    findings = check(account.deployment)
    results = [
        Result(
            Status.ERROR if finding.severity is Severity.ERROR else Status.WARNING,
            "deployment file",
            f"{finding.place}: {finding.message}",
            f"{finding.fixes[0]}" if finding.fixes else None,
        )
        for finding in findings
    ]
    return results or [Result(Status.OK, "deployment file", "no problems found")]


def check_identity(account: Account) -> list[Result]:
    who = account.client("sts").get_caller_identity()
    return [Result(Status.OK, "credentials", f"{who['Arn']}, account {who['Account']}, {account.region}")]


def check_bootstrap(account: Account) -> list[Result]:
    subject = "CDK bootstrap"
    target = f"aws://{account.client('sts').get_caller_identity()['Account']}/{account.region}"
    command = f"npx cdk bootstrap {target}"
    try:
        with translated():
            parameter = account.client("ssm").get_parameter(Name=_VERSION_PARAMETER)["Parameter"]
    except ClientError as error:
        if code_of(error) != "ParameterNotFound":
            raise
        return [Result(Status.ERROR, subject, f"{target} is not bootstrapped", command)]
    version = parameter["Value"]
    if not version.isdigit() or int(version) < BOOTSTRAP_VERSION:
        found = f"version {version}; at least {BOOTSTRAP_VERSION} is required"
        return [Result(Status.ERROR, subject, found, command)]
    return [Result(Status.OK, subject, f"version {version}")]


def check_service_roles(account: Account) -> list[Result]:
    """The service-linked roles, without which the first deployment in an account may fail."""
    missing = service_roles.missing(account)
    if not missing:
        return [Result(Status.OK, "service roles", "all exist")]
    services = service_roles.needed(account)
    fix = " && ".join(
        f"aws iam create-service-linked-role --aws-service-name {services[role]}" for role in missing
    )
    found = f"{', '.join(missing)} do not exist yet; make deploy creates them first"
    return [Result(Status.WARNING, "service roles", found, fix)]


def check_secrets(account: Account) -> list[Result]:
    """Checks that the secrets in the file exist, without reading their values."""
    deployment = account.deployment
    named = {
        **{
            one.in_file("model.hf_token_secret_arn"): one.model.hf_token_secret_arn
            for one in deployment.entries
        },
        "tools.database_url_secret_arn": deployment.tools.database_url_secret_arn,
        **deployment.tools.secret_arns,
    }
    results = []
    for setting, arn in named.items():
        if arn:
            results.append(_secret(account, setting, arn))
    return results or [Result(Status.OK, "secrets", "the file uses none")]


def _secret(account: Account, setting: str, arn: str) -> Result:
    try:
        with translated():
            secret = account.client("secretsmanager").describe_secret(SecretId=arn)
    except ClientError as error:
        if code_of(error) not in ("ResourceNotFoundException", "ValidationException"):
            raise
        create = "aws secretsmanager create-secret --name NAME --secret-string VALUE"
        return Result(Status.ERROR, "secrets", f"{setting}: {arn} does not exist", f"{create}; set {setting}")
    if secret.get("DeletedDate"):
        restore = f"aws secretsmanager restore-secret --secret-id {arn}"
        return Result(Status.ERROR, "secrets", f"{setting}: {secret['Name']} is being deleted", restore)
    key = secret.get("KmsKeyId", "")
    if key and not key.endswith(_DEFAULT_KEY):
        found = f"{setting}: {secret['Name']} is encrypted with {key}, which ECS may not use for the tasks"
        fix = "allow kms:Decrypt in the key's policy for the orchestrator's and the engine's execution roles"
        return Result(Status.WARNING, "secrets", found, fix)
    return Result(Status.OK, "secrets", f"{setting}: {secret['Name']}")


def check_policies(account: Account) -> list[Result]:
    """Checks that the permissions boundary and the policies of the tools exist."""
    deployment = account.deployment
    named = {f"tools.policy_arns.{number}": arn for number, arn in enumerate(deployment.tools.policy_arns)}
    if deployment.permissions_boundary_arn:
        named["permissions_boundary_arn"] = deployment.permissions_boundary_arn
    results = [_policy(account, setting, arn) for setting, arn in named.items()]
    return results or [Result(Status.OK, _PERMISSIONS, "the file names no policies")]


def _policy(account: Account, setting: str, arn: str) -> Result:
    try:
        with translated():
            account.client("iam").get_policy(PolicyArn=arn)
    except ClientError as error:
        if code_of(error) != "NoSuchEntity":
            raise
        fix = f"correct {setting}; aws iam list-policies --scope Local shows yours"
        return Result(Status.ERROR, _PERMISSIONS, f"{setting}: {arn} does not exist in this account", fix)
    return Result(Status.OK, _PERMISSIONS, f"{setting}: {arn.rpartition('/')[2]}")
