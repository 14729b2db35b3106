"""Faults of what the deployment's own tools get: variables, secrets, permissions, connections."""

from __future__ import annotations

from typing import Any

from tests.infra.template_checks.faults.network import RULES, opened
from tests.infra.template_checks.mutations import (
    BOX,
    GROUP,
    TASK,
    Change,
    Mutation,
    Templates,
    drop,
    in_statement,
    put,
    resources,
    variable,
    with_resource,
    with_statement,
    without_action,
)

ROLE = "AWS::IAM::Role"
VARIANT = "own_tools"
ORCHESTRATOR, TASK_ROLE, START = "Orchestrator", "OrchestratorTaskTaskRole", "OrchestratorTaskExecutionRole"
TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/parcels"
TRUST = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}}]}
ADMINISTRATOR = ["arn:aws:iam::123456789012:policy/administrator"]


def secret(name: str, value: Any) -> Change:
    """Sets where a secret of the orchestrator comes from; None removes it."""

    def change(templates: Templates) -> None:
        box = resources(templates, TASK, ORCHESTRATOR)[0]["Properties"]["ContainerDefinitions"][0]
        kept = [one for one in box["Secrets"] if one["Name"] != name]
        box["Secrets"] = kept + ([{"Name": name, "ValueFrom": value}] if value else [])

    return change


SEEDED: tuple[tuple[str, str, Change], ...] = (
    ("tool without its variable", "T-tool-variables", variable(ORCHESTRATOR, "CARRIER_URL", None)),
    ("setting of the orchestrator lost", "T-tool-variables", variable(ORCHESTRATOR, "LOG_CONTENT", None)),
    ("another value", "T-tool-variables", variable(ORCHESTRATOR, "TOOL_RESULT_BYTES", "1024")),
    ("variable of nobody", "T-tool-variables", variable(ORCHESTRATOR, "DEBUG", "1")),
    ("tool without its secret", "T-tool-variables", secret("CARRIER_TOKEN", None)),
    ("MCP servers lost", "T-tool-variables", variable(ORCHESTRATOR, "MCP_SERVERS", None)),
    ("MCP server without its secret", "T-tool-variables", secret("MCP_DOCS_AUTHORIZATION", None)),
    ("secret in clear", "T-tool-variables", variable(ORCHESTRATOR, "CARRIER_TOKEN", "abc")),
    (
        "whole secret instead of its key",
        "T-tool-variables",
        secret("CRM_PASSWORD", "arn:aws:secretsmanager:us-east-1:123456789012:secret:crm-GhIjKl"),
    ),
    (
        "secret of someone else",
        "T-tool-variables",
        secret("PAYROLL", "arn:aws:secretsmanager:us-east-1:123456789012:secret:payroll-AbCdEf"),
    ),
    ("no secrets at all", "T-tool-variables", drop(TASK, (*BOX, "Secrets"), ORCHESTRATOR)),
    ("tool's secret not readable", "T-role-may", without_action(START, "secretsmanager:GetSecretValue")),
    ("tool's permission lost", "T-tool-permissions", without_action(TASK_ROLE, "dynamodb:Query")),
    (
        "tool's permission on another resource",
        "T-tool-permissions",
        in_statement(TASK_ROLE, "s3:GetObject", Resource="arn:aws:s3:::payroll/*"),
    ),
    (
        "tool's permission wider than declared",
        "T-role-may-not",
        in_statement(TASK_ROLE, "dynamodb:GetItem", Resource="*"),
    ),
    (
        "tool may do more than declared",
        "T-role-may-not",
        with_statement(TASK_ROLE, {"Effect": "Allow", "Action": "dynamodb:PutItem", "Resource": TABLE}),
    ),
    (
        "tool's permission given to ECS",
        "T-role-may-not",
        with_statement(START, {"Effect": "Allow", "Action": "dynamodb:GetItem", "Resource": TABLE}),
    ),
    ("tool's policy lost", "T-tool-permissions", drop(ROLE, ("ManagedPolicyArns",), TASK_ROLE)),
    (
        "another policy for tools",
        "T-tool-permissions",
        put(ROLE, ("ManagedPolicyArns",), ADMINISTRATOR, TASK_ROLE),
    ),
    (
        "tool's policy for the engine",
        "T-tool-permissions",
        put(ROLE, ("ManagedPolicyArns",), ADMINISTRATOR, "EngineTaskTaskRole"),
    ),
    ("tool's connection not let out", "T-egress", drop(GROUP, (RULES, 1), ORCHESTRATOR)),
    (
        "tool's connection to everywhere",
        "T-egress",
        put(GROUP, (RULES, 2, "CidrIp"), "0.0.0.0/0", ORCHESTRATOR),
    ),
    ("more let out than declared", "T-egress", opened(ORCHESTRATOR, "Egress", FromPort=22, ToPort=22)),
    ("role without the boundary", "T-boundary", drop(ROLE, ("PermissionsBoundary",), "GpuCapacity")),
    (
        "another boundary",
        "T-boundary",
        put(ROLE, ("PermissionsBoundary",), "arn:aws:iam::123456789012:policy/other", "ImageBuilder"),
    ),
    (
        "new role without the boundary",
        "T-boundary",
        with_resource("Helper", ROLE, {"AssumeRolePolicyDocument": TRUST}),
    ),
    ("user without the boundary", "T-boundary", with_resource("Helper", "AWS::IAM::User", {})),
)
FAULTS = (
    *(Mutation(name, rule, change, VARIANT) for name, rule, change in SEEDED),
    Mutation(
        "boundary that the file does not name",
        "T-boundary",
        put(ROLE, ("PermissionsBoundary",), "arn:aws:iam::123456789012:policy/developers", "EngineTask"),
    ),
)
