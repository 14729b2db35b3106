"""Shared by the task definitions of both tiers."""

from __future__ import annotations

from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_logs as logs
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from infra.deployment.file import Deployment
from infra.log_group import log_group
from infra.suppressions import accept, accept_registry_login


def container_logs(scope: Construct, deployment: Deployment) -> logs.LogGroup:
    """The log group of a tier's containers."""
    return log_group(
        scope,
        "Logs",
        retention_days=deployment.logs.retention_days,
        retain=deployment.removal_policy == "retain",
    )


def existing_secret(scope: Construct, name: str, arn: str, json_key: str | None = None) -> ecs.Secret:
    """An existing secret, or one of its JSON fields, to be injected into a container."""
    secret = secretsmanager.Secret.from_secret_complete_arn(scope, name, arn)
    return ecs.Secret.from_secrets_manager(secret, json_key)


def accept_design(task: ecs.TaskDefinition) -> None:
    """Accepts findings in a task definition, each with its reason."""
    accept_registry_login(task.obtain_execution_role())
    accept(
        task,
        "AwsSolutions-ECS2",
        reason="The environment contains no secrets; keys are injected from Secrets Manager.",
    )
