"""Small Lambda functions, whose sources are in `functions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.deployment.file import Deployment
from infra.log_group import log_group
from infra.suppressions import accept

SOURCES = Path(__file__).parent / "functions"


def small_function(
    scope: Construct,
    construct_id: str,
    *,
    module: str,
    description: str,
    statements: Sequence[iam.PolicyStatement],
    accepted: Mapping[str, str],
    deployment: Deployment,
) -> lambda_.Function:
    """A function that runs `handle` of a module, with a role of its own.

    Args:
        accepted: Findings of cdk-nag about its role, each with the reason why it is not a problem.
    """
    group = log_group(
        scope,
        f"{construct_id}Logs",
        retention_days=deployment.logs.retention_days,
        retain=deployment.removal_policy == "retain",
    )
    role = iam.Role(scope, f"{construct_id}Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    log = iam.PolicyStatement(
        actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[group.log_group_arn]
    )
    for statement in (log, *statements):
        role.add_to_policy(statement)
    for finding, reason in accepted.items():
        accept(role, finding, reason=reason)
    function = lambda_.Function(
        scope,
        construct_id,
        description=description,
        runtime=lambda_.Runtime.PYTHON_3_14,
        code=lambda_.Code.from_asset(str(SOURCES), exclude=["__pycache__"]),
        handler=f"{module}.handle",
        timeout=cdk.Duration.minutes(5),
        role=role.without_policy_updates(),
        log_group=group,
    )
    function.node.add_dependency(role)
    accept(
        function,
        "CKV_AWS_115",
        "CKV_AWS_116",
        "CKV_AWS_117",
        reason="Invoked a few times in the life of a deployment by services that retry; it only calls AWS.",
    )
    return function
