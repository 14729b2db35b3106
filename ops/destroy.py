"""Destroys a deployment in the right order, and lists what is left of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from .account import Account, Failed, code_of, translated
from .cdk import Cdk
from .report import Result, Status, say

_DRAIN_SECONDS = 600.0
_POLL_SECONDS = 5.0
_MOST_INSTANCES = 50
"""SetInstanceProtection accepts as many."""


def preview(account: Account) -> list[Result]:
    """Returns what will be deleted and what is kept."""
    retain = account.deployment.removal_policy == "retain"
    results = []
    for name in account.stack_names:
        stack = account.stack(name)
        if stack is None:
            results.append(Result(Status.OK, "not deployed", name))
            continue
        count = len(_resources(account, name))
        results.append(Result(Status.WARNING, "deleted", f"{name} ({stack.status}) with {count} resources"))
    kept = (
        "images, keys and logs, because removal_policy is retain"
        if retain
        else "nothing: images, keys and logs are deleted too"
    )
    results.append(Result(Status.OK, "kept", kept))
    results.append(
        Result(Status.OK, "kept", "the resources of cdk bootstrap (CDKToolkit), which other apps use too")
    )
    return results


def destroy(account: Account, *, deployment_file: Path) -> None:
    """Sets the services to zero, waits for their tasks, and runs `cdk destroy`.

    Raises:
        Failed: A stack could not be deleted.
    """
    if not any(account.stack(name) for name in account.stack_names):
        say("Nothing is deployed.")
        return
    _drain(account)
    _unprotect(account)
    # The CLI deletes both stacks, also after a failed first deployment.
    arguments = ["destroy", "--all", "--force"]
    if account.deployment.ingress.certificate_arn is None:
        say("Deleting the stacks; terminating the GPU instances takes a few minutes")
    cdk = Cdk(arguments, deployment_file=deployment_file, region=account.region)
    try:
        cdk.read(_show_deleted)
    except KeyboardInterrupt:
        cdk.stop()
        raise
    cdk.finish("the deletion")


def _show_deleted(line: str) -> None:
    if (
        "DELETE_FAILED" in line
        or ("DELETE_COMPLETE" in line and "AWS::CloudFormation::Stack" in line)
        or "destroyed" in line
    ):
        say(f"  {line.strip()}")


def _drain(account: Account) -> None:
    """Scales both services to zero, so that instances leave the cluster and nothing blocks the deletion."""
    services = _services(account)
    if not services:
        return
    ecs = account.client("ecs")
    for cluster, service in services:
        _stop_scaling(account, cluster, service)
        with translated():
            ecs.update_service(cluster=cluster, service=service, desiredCount=0)
        say(f"Scaling {service.rpartition('/')[2]} to zero tasks")
    cluster = services[0][0]
    names = [service for _, service in services]
    until = time.monotonic() + _DRAIN_SECONDS
    while time.monotonic() < until:
        with translated():
            described = ecs.describe_services(cluster=cluster, services=names)["services"]
        running = sum(one["runningCount"] + one["pendingCount"] for one in described)
        if not running:
            return
        say(f"  {running} tasks are still stopping")
        time.sleep(_POLL_SECONDS)
    say(f"  tasks are still running after {_DRAIN_SECONDS:g} s; continuing")


def _stop_scaling(account: Account, cluster: str, service: str) -> None:
    """Sets a service's scaling limits to zero, or scaling would start its minimum of tasks again."""
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


def _unprotect(account: Account) -> None:
    """Clears the scale-in protection of instances, with which their group could not be deleted."""
    groups = [
        one["PhysicalResourceId"]
        for one in _resources(account, account.stack_names[1])
        if one["ResourceType"] == "AWS::AutoScaling::AutoScalingGroup" and one.get("PhysicalResourceId")
    ]
    scaling = account.client("autoscaling")
    for name in groups:
        with translated():
            found = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
            for group in found:
                if group.get("NewInstancesProtectedFromScaleIn"):
                    scaling.update_auto_scaling_group(
                        AutoScalingGroupName=name, NewInstancesProtectedFromScaleIn=False
                    )
                protected = [one["InstanceId"] for one in group["Instances"] if one["ProtectedFromScaleIn"]]
                for start in range(0, len(protected), _MOST_INSTANCES):
                    scaling.set_instance_protection(
                        AutoScalingGroupName=name,
                        InstanceIds=protected[start : start + _MOST_INSTANCES],
                        ProtectedFromScaleIn=False,
                    )


def _services(account: Account) -> list[tuple[str, str]]:
    """Returns the cluster and ARN of each service of the serving stack."""
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
    """Returns what is left: resources with this deployment's stack in their tags, and those found by name.

    A leftover is a warning if the deployment file says to keep it, and an error otherwise.
    """
    name = account.deployment.name
    retain = account.deployment.removal_policy == "retain"
    found = [*_tagged(account), *_repositories(account, name), *_log_groups(account)]
    mark = Status.WARNING if retain else Status.ERROR
    results = [Result(mark, "left", what, fix) for what, fix in dict(found).items()]
    return results or [Result(Status.OK, "left", "nothing")]


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
    """Returns whether a listed resource is gone: AWS lists some kinds for a while longer."""
    if ":task-definition/" in arn:
        return True
    if ":dynamodb:" in arn:
        return _is_deleted_table(account, arn)
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


def _is_deleted_table(account: Account, arn: str) -> bool:
    try:
        with translated():
            table = account.client("dynamodb").describe_table(TableName=arn.rpartition("/")[2])["Table"]
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        return True
    return bool(table["TableStatus"] == "DELETING")


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
    """Checks that both stacks are deleted.

    Raises:
        Failed: A stack still exists.
    """
    for name in account.stack_names:
        stack = account.stack(name)
        if stack is not None:
            raise Failed(f"{name} still exists ({stack.status}: {stack.reason}); run make destroy again")
