"""The deployment file, whose credentials these are, and what the account has to have first."""

from __future__ import annotations

from botocore.exceptions import ClientError

from infra.deployment.checks import check
from infra.deployment.checks.rule import Severity
from ops.account import Account, code_of, translated
from ops.report import Mark, Result

BOOTSTRAP_VERSION = 6
"""The least that assemblies of aws-cdk-lib 2 ask for (`BootstrapVersion` in cdk.out/*.assets.json)."""

_VERSION_PARAMETER = "/cdk-bootstrap/hnb659fds/version"


def look_at_file(account: Account) -> list[Result]:
    """What synthesis would say of the file."""
    findings = check(account.deployment)
    results = [
        Result(
            Mark.WRONG if finding.severity is Severity.ERROR else Mark.WARNING,
            "deployment file",
            f"{finding.place}: {finding.message}",
            f"{finding.fixes[0]}" if finding.fixes else None,
        )
        for finding in findings
    ]
    return results or [Result(Mark.OK, "deployment file", "nothing to say against it")]


def look_at_identity(account: Account) -> list[Result]:
    who = account.client("sts").get_caller_identity()
    return [Result(Mark.OK, "credentials", f"{who['Arn']}, account {who['Account']}, {account.region}")]


def look_at_bootstrap(account: Account) -> list[Result]:
    subject = "CDK bootstrap"
    target = f"aws://{account.client('sts').get_caller_identity()['Account']}/{account.region}"
    command = f"npx cdk bootstrap {target}"
    try:
        with translated():
            parameter = account.client("ssm").get_parameter(Name=_VERSION_PARAMETER)["Parameter"]
    except ClientError as error:
        if code_of(error) != "ParameterNotFound":
            raise
        return [Result(Mark.WRONG, subject, f"{target} is not bootstrapped", command)]
    version = parameter["Value"]
    if not version.isdigit() or int(version) < BOOTSTRAP_VERSION:
        found = f"version {version}, at least {BOOTSTRAP_VERSION} is needed"
        return [Result(Mark.WRONG, subject, found, command)]
    return [Result(Mark.OK, subject, f"version {version}")]


def look_at_secrets(account: Account) -> list[Result]:
    """The secrets that the file names; what is in them is not read."""
    deployment = account.deployment
    named = {
        "model.hf_token_secret_arn": deployment.model.hf_token_secret_arn,
        "tools.database_url_secret_arn": deployment.tools.database_url_secret_arn,
    }
    results = []
    for knob, arn in named.items():
        if arn:
            results.append(_secret(account, knob, arn))
    return results or [Result(Mark.OK, "secrets", "the file names none")]


def _secret(account: Account, knob: str, arn: str) -> Result:
    try:
        with translated():
            secret = account.client("secretsmanager").describe_secret(SecretId=arn)
    except ClientError as error:
        if code_of(error) not in ("ResourceNotFoundException", "ValidationException"):
            raise
        create = "aws secretsmanager create-secret --name NAME --secret-string VALUE"
        return Result(Mark.WRONG, "secrets", f"{knob}: there is no {arn}", f"{create}, and its ARN in {knob}")
    if secret.get("DeletedDate"):
        restore = f"aws secretsmanager restore-secret --secret-id {arn}"
        return Result(Mark.WRONG, "secrets", f"{knob}: {secret['Name']} is being deleted", restore)
    return Result(Mark.OK, "secrets", f"{knob}: {secret['Name']}")
