"""The stacks of an earlier try, and names that something else has taken."""

from __future__ import annotations

from botocore.exceptions import ClientError

from ops.account import Account, Stack, code_of, translated
from ops.report import Mark, Result

_UP = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
_MEND = {
    "ROLLBACK_COMPLETE": "make destroy, then make deploy: a first try that failed cannot be continued",
    "ROLLBACK_FAILED": "make destroy, then make deploy: a first try that failed cannot be continued",
    "CREATE_FAILED": "make destroy, then make deploy: a first try that failed cannot be continued",
    "REVIEW_IN_PROGRESS": "aws cloudformation delete-stack --stack-name {name}: a change set was never run",
    "UPDATE_ROLLBACK_FAILED": "aws cloudformation continue-update-rollback --stack-name {name}",
    "DELETE_FAILED": "make destroy once more; the stack's events tell what could not be deleted",
}


def are_up(account: Account) -> bool:
    """Whether both stacks are there and complete."""
    found = [account.stack(name) for name in account.stack_names]
    return all(stack is not None and stack.status in _UP for stack in found)


def look_at_stacks(account: Account) -> list[Result]:
    return [_result(name, account.stack(name)) for name in account.stack_names]


def _result(name: str, stack: Stack | None) -> Result:
    if stack is None:
        return Result(Mark.OK, "stacks", f"{name}: not there yet")
    if stack.description and not stack.description.startswith("Tandem"):
        found = f"{name} is a stack of something else ({stack.description})"
        return Result(Mark.WRONG, "stacks", found, "another name in tandem.yaml")
    found = f"{name}: {stack.status}"
    if stack.status in _MEND:
        reason = f" ({stack.reason})" if stack.reason else ""
        return Result(Mark.WRONG, "stacks", found + reason, _MEND[stack.status].format(name=name))
    if stack.status == "UPDATE_ROLLBACK_COMPLETE":
        fix = f"aws cloudformation describe-stack-events --stack-name {name} tells why"
        return Result(Mark.WARNING, "stacks", f"{found}: the last release was taken back", fix)
    if stack.status.endswith("_IN_PROGRESS"):
        return Result(
            Mark.WARNING, "stacks", found, "wait until it has ended; a second deployment would fail"
        )
    return Result(Mark.OK, "stacks", found)


def look_at_names(account: Account) -> list[Result]:
    """Names that are fixed in the templates. Where a stack of ours is there, they are ours."""
    foundation, serving = (account.stack(name) for name in account.stack_names)
    name = account.deployment.name
    results = []
    if foundation is None:
        retained = account.deployment.removal_policy == "retain"
        results += (
            []
            if retained
            else [_repository(account, f"{name}/{image}") for image in ("orchestrator", "vllm")]
        )
        results.append(_parameter(account, f"/{name}/certificate-arn"))
    if serving is None:
        results.append(_namespace(account, f"{name}.internal"))
    taken = [result for result in results if result.mark is not Mark.OK]
    return taken or [Result(Mark.OK, "names", "none is taken by something else")]


def _repository(account: Account, name: str) -> Result:
    ecr = account.client("ecr")
    try:
        with translated():
            ecr.describe_repositories(repositoryNames=[name])
    except ClientError as error:
        if code_of(error) != "RepositoryNotFoundException":
            raise
        return Result(Mark.OK, "names", f"{name} is free")
    delete = f"aws ecr delete-repository --force --repository-name {name}, or another name in tandem.yaml"
    return Result(Mark.WRONG, "names", f"the repository {name} is there already", delete)


def _parameter(account: Account, name: str) -> Result:
    try:
        with translated():
            account.client("ssm").get_parameter(Name=name)
    except ClientError as error:
        if code_of(error) != "ParameterNotFound":
            raise
        return Result(Mark.OK, "names", f"{name} is free")
    delete = f"aws ssm delete-parameter --name {name}, or another name in tandem.yaml"
    return Result(Mark.WRONG, "names", f"the parameter {name} is there already", delete)


def _namespace(account: Account, name: str) -> Result:
    pages = account.client("servicediscovery").get_paginator("list_namespaces").paginate()
    names = [one["Name"] for page in pages for one in page["Namespaces"]]
    if name not in names:
        return Result(Mark.OK, "names", f"{name} is free")
    found = f"a Cloud Map namespace {name} is there already; in the same VPC a second one is refused"
    return Result(Mark.WARNING, "names", found, "another name in tandem.yaml, if both share a VPC")
