"""Destroys a deployment in the order that works, and lists what is left of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from .account import Account, Failed, code_of, translated
from .cdk import Cdk
from .report import Mark, Result, tell

_DRAIN_SECONDS = 600.0
_POLL_SECONDS = 5.0


def preview(account: Account) -> list[Result]:
    """What will go, and what is kept."""
    retain = account.deployment.removal_policy == "retain"
    results = []
    for name in account.stack_names:
        stack = account.stack(name)
        if stack is None:
            results.append(Result(Mark.OK, "not there", name))
            continue
        count = len(_resources(account, name))
        results.append(Result(Mark.WARNING, "goes", f"{name} ({stack.status}) with {count} resources"))
    kept = (
        "images, keys and logs, for removal_policy is retain"
        if retain
        else "nothing: images, keys and logs go too"
    )
    results.append(Result(Mark.OK, "stays", kept))
    results.append(Result(Mark.OK, "stays", "what cdk bootstrap made (CDKToolkit), which other apps use too"))
    return results


def destroy(account: Account, *, deployment_file: Path) -> None:
    """Sets the services to zero, waits for their tasks, and runs `cdk destroy`.

    Raises:
        Failed: a stack could not be deleted.
    """
    if not any(account.stack(name) for name in account.stack_names):
        tell("Nothing is deployed.")
        return
    _drain(account)
    # A first try that failed stands in the way of its own deletion by nothing; the CLI does both stacks.
    arguments = ["destroy", "--all", "--force"]
    if account.deployment.ingress.certificate_arn is None:
        tell("Deleting the stacks; the GPU instances take a few minutes to end")
    cdk = Cdk(account, arguments, deployment_file=deployment_file)
    try:
        cdk.read(_tell_deleted)
    except KeyboardInterrupt:
        cdk.stop()
        raise
    cdk.finish("destroying")


def _tell_deleted(line: str) -> None:
    if (
        "DELETE_FAILED" in line
        or ("DELETE_COMPLETE" in line and "AWS::CloudFormation::Stack" in line)
        or "destroyed" in line
    ):
        tell(f"  {line.strip()}")


def _drain(account: Account) -> None:
    """Sets both services to zero: their instances then leave the cluster, and nothing holds the stack."""
    services = _services(account)
    if not services:
        return
    ecs = account.client("ecs")
    for cluster, service in services:
        _stop_scaling(account, cluster, service)
        with translated():
            ecs.update_service(cluster=cluster, service=service, desiredCount=0)
        tell(f"Setting {service.rpartition('/')[2]} to zero tasks")
    cluster = services[0][0]
    names = [service for _, service in services]
    until = time.monotonic() + _DRAIN_SECONDS
    while time.monotonic() < until:
        with translated():
            described = ecs.describe_services(cluster=cluster, services=names)["services"]
        running = sum(one["runningCount"] + one["pendingCount"] for one in described)
        if not running:
            return
        tell(f"  {running} tasks are still ending")
        time.sleep(_POLL_SECONDS)
    tell(f"  tasks are still there after {_DRAIN_SECONDS:g} s; going on")


def _stop_scaling(account: Account, cluster: str, service: str) -> None:
    """Else the scaling would start the least number of tasks again."""
    resource = f"service/{cluster.rpartition('/')[2]}/{service.rpartition('/')[2]}"
    scaling = account.client("application-autoscaling")
    with translated():
        targets = scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
        for target in targets:
            if target["ResourceId"] == resource:
                scaling.register_scalable_target(
                    ServiceNamespace="ecs",
                    ResourceId=resource,
                    ScalableDimension=target["ScalableDimension"],
                    MinCapacity=0,
                    MaxCapacity=0,
                )


def _services(account: Account) -> list[tuple[str, str]]:
    """Cluster and ARN of each service of the second stack."""
    found = {one["ResourceType"]: one for one in _resources(account, account.stack_names[1])}
    cluster = found.get("AWS::ECS::Cluster", {}).get("PhysicalResourceId")
    services = [
        one["PhysicalResourceId"]
        for one in _resources(account, account.stack_names[1])
        if one["ResourceType"] == "AWS::ECS::Service" and one.get("PhysicalResourceId")
    ]
    return [(cluster, service) for service in services] if cluster else []


def _resources(account: Account, stack: str) -> list[Any]:
    try:
        with translated():
            found: list[Any] = account.client("cloudformation").describe_stack_resources(StackName=stack)[
                "StackResources"
            ]
    except ClientError as error:
        if code_of(error) != "ValidationError":
            raise
        return []
    return [one for one in found if one["ResourceStatus"] != "DELETE_COMPLETE"]


def left(account: Account) -> list[Result]:
    """What still bears this deployment's stack in its tags, and what tags do not tell of.

    A kept thing is fine where the file says to keep it, and WRONG otherwise.
    """
    name = account.deployment.name
    retain = account.deployment.removal_policy == "retain"
    found = [*_tagged(account), *_repositories(account, name), *_log_groups(account)]
    mark = Mark.WARNING if retain else Mark.WRONG
    results = [Result(mark, "left", what, fix) for what, fix in dict(found).items()]
    return results or [Result(Mark.OK, "left", "nothing")]


def _tagged(account: Account) -> list[tuple[str, str]]:
    found = []
    for stack in account.stack_names:
        with translated():
            pages = (
                account.client("resourcegroupstaggingapi")
                .get_paginator("get_resources")
                .paginate(TagFilters=[{"Key": "aws:cloudformation:stack-name", "Values": [stack]}])
            )
            arns = [one["ResourceARN"] for page in pages for one in page["ResourceTagMappingList"]]
        found += [(arn, "delete it in the console") for arn in arns if not _is_ended(account, arn)]
    return found


def _is_ended(account: Account, arn: str) -> bool:
    """AWS goes on listing, for a while, task definitions and services that are no more."""
    if ":task-definition/" in arn:
        return True
    if ":ecs:" not in arn or ":service/" not in arn:
        return False
    cluster = arn.split("/")[1]
    try:
        with translated():
            services = account.client("ecs").describe_services(cluster=cluster, services=[arn])["services"]
    except ClientError as error:
        if code_of(error) != "ClusterNotFoundException":
            raise
        return True
    return all(service["status"] == "INACTIVE" for service in services)


def _repositories(account: Account, name: str) -> list[tuple[str, str]]:
    ecr = account.client("ecr")
    with translated():
        pages = ecr.get_paginator("describe_repositories").paginate()
        names = [one["repositoryName"] for page in pages for one in page["repositories"]]
    return [
        (f"repository {one}", f"aws ecr delete-repository --force --repository-name {one}")
        for one in names
        if one.startswith((f"{name}/", f"{account.stack_names[0]}-"))
    ]


def _log_groups(account: Account) -> list[tuple[str, str]]:
    logs = account.client("logs")
    found = []
    for stack in account.stack_names:
        with translated():
            pages = logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=f"{stack}-")
            names = [one["logGroupName"] for page in pages for one in page["logGroups"]]
        found += [(f"log group {one}", f"aws logs delete-log-group --log-group-name {one}") for one in names]
    return found


def deleted(account: Account) -> None:
    """
    Raises:
        Failed: a stack is still there.
    """
    for name in account.stack_names:
        stack = account.stack(name)
        if stack is not None:
            raise Failed(f"{name} is still there, {stack.status}: {stack.reason}; make destroy once more")
