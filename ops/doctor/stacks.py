"""Checks for stacks of an earlier attempt, and for names that are already taken."""

from __future__ import annotations

from collections.abc import Callable

from botocore.exceptions import ClientError

from ops.account import Account, Stack, code_of, translated
from ops.report import Result, Status

_UP = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
_FIX = {
    "ROLLBACK_COMPLETE": "run make destroy, then make deploy: a failed first deployment cannot be continued",
    "ROLLBACK_FAILED": "run make destroy, then make deploy: a failed first deployment cannot be continued",
    "CREATE_FAILED": "run make destroy, then make deploy: a failed first deployment cannot be continued",
    "REVIEW_IN_PROGRESS": "aws cloudformation delete-stack --stack-name {name} (never executed)",
    "UPDATE_ROLLBACK_FAILED": "aws cloudformation continue-update-rollback --stack-name {name}",
    "DELETE_FAILED": "run make destroy again; the stack's events show what could not be deleted",
}


def are_up(account: Account) -> bool:
    """Returns whether both stacks exist and are complete."""
    found = [account.stack(name) for name in account.stack_names]
    return all(stack is not None and stack.status in _UP for stack in found)


def check_stacks(account: Account) -> list[Result]:
    return [_result(name, account.stack(name)) for name in account.stack_names]


def _result(name: str, stack: Stack | None) -> Result:
    if stack is None:
        return Result(Status.OK, "stacks", f"{name}: not deployed yet")
    if stack.description and not stack.description.startswith("Tandem"):
        found = f"{name} is a stack of another application ({stack.description})"
        return Result(Status.ERROR, "stacks", found, "set another name in tandem.yaml")
    found = f"{name}: {stack.status}"
    if stack.status in _FIX:
        reason = f" ({stack.reason})" if stack.reason else ""
        return Result(Status.ERROR, "stacks", found + reason, _FIX[stack.status].format(name=name))
    if stack.status == "UPDATE_ROLLBACK_COMPLETE":
        fix = f"aws cloudformation describe-stack-events --stack-name {name} shows why"
        return Result(Status.WARNING, "stacks", f"{found}: the last release was rolled back", fix)
    if stack.status.endswith("_IN_PROGRESS"):
        return Result(
            Status.WARNING, "stacks", found, "wait until it finishes; a second deployment would fail"
        )
    return Result(Status.OK, "stacks", found)


def check_names(account: Account) -> list[Result]:
    """Checks the fixed names in the templates. If our stack exists, its names are ours."""
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
    taken = [result for result in results if result.status is not Status.OK]
    return taken or [Result(Status.OK, "names", "all available")]


def _repository(account: Account, name: str) -> Result:
    return _unless_free(
        f"repository {name}",
        lambda: account.client("ecr").describe_repositories(repositoryNames=[name]),
        "RepositoryNotFoundException",
        f"aws ecr delete-repository --force --repository-name {name}",
    )


def _parameter(account: Account, name: str) -> Result:
    return _unless_free(
        f"parameter {name}",
        lambda: account.client("ssm").get_parameter(Name=name),
        "ParameterNotFound",
        f"aws ssm delete-parameter --name {name}",
    )


def _unless_free(what: str, look_up: Callable[[], object], not_found: str, delete: str) -> Result:
    """Returns an error if a look-up succeeds, and OK if it ends with the code for what does not exist."""
    try:
        with translated():
            look_up()
    except ClientError as error:
        if code_of(error) != not_found:
            raise
        return Result(Status.OK, "names", f"the {what} does not exist yet")
    fix = f"{delete}, or set another name in tandem.yaml"
    return Result(Status.ERROR, "names", f"the {what} already exists", fix)


def _namespace(account: Account, name: str) -> Result:
    pages = account.client("servicediscovery").get_paginator("list_namespaces").paginate()
    names = [one["Name"] for page in pages for one in page["Namespaces"]]
    if name not in names:
        return Result(Status.OK, "names", f"{name} is free")
    found = f"a Cloud Map namespace {name} already exists; AWS rejects a second one in the same VPC"
    return Result(Status.WARNING, "names", found, "if both share a VPC, set another name in tandem.yaml")
