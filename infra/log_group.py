"""Log groups with the deployment's retention."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_logs as logs
from constructs import Construct

from .suppressions import accept


def log_group(scope: Construct, construct_id: str, *, retention_days: int, retain: bool) -> logs.LogGroup:
    """A log group with any retention in days that CloudWatch Logs supports."""
    group = logs.LogGroup(
        scope,
        construct_id,
        removal_policy=cdk.RemovalPolicy.RETAIN if retain else cdk.RemovalPolicy.DESTROY,
    )
    resource = group.node.default_child
    if isinstance(resource, logs.CfnLogGroup):
        resource.retention_in_days = retention_days
    accept(group, "CKV_AWS_158", reason="CloudWatch Logs encrypts with its own key.")
    return group
