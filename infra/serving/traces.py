"""The collector in an orchestrator's task, which sends traces to X-Ray."""

from __future__ import annotations

import json

from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs

from infra.deployment.trace_settings import COLLECTOR_ADDRESS
from infra.suppressions import accept

IMAGE = "public.ecr.aws/aws-observability/aws-otel-collector:v0.43.3"
CONTAINER = "collector"

_MEMORY_MIB = 192
_ACTIONS = ("xray:PutTelemetryRecords", "xray:PutTraceSegments")


def add_collector(task: ecs.FargateTaskDefinition, log_group: logs.ILogGroup) -> None:
    """Adds the collector. The orchestrator does not depend on it, and goes on without it."""
    task.add_container(
        CONTAINER,
        container_name=CONTAINER,
        image=ecs.ContainerImage.from_registry(IMAGE),
        essential=False,
        memory_limit_mib=_MEMORY_MIB,
        environment={"AOT_CONFIG_CONTENT": json.dumps(_configuration())},
        readonly_root_filesystem=True,
        logging=ecs.LogDrivers.aws_logs(stream_prefix=CONTAINER, log_group=log_group),
    )
    task.add_to_task_role_policy(iam.PolicyStatement(actions=list(_ACTIONS), resources=["*"]))
    accept(
        task.task_role,
        "AwsSolutions-IAM5[Resource::*]",
        reason="Putting segments has no resource: AWS's reference of X-Ray's permissions.",
    )


def _configuration() -> dict[str, object]:
    pipeline = {
        "receivers": ["otlp"],
        "processors": ["memory_limiter", "batch"],
        "exporters": ["awsxray"],
    }
    return {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": COLLECTOR_ADDRESS}}}},
        "processors": {
            "memory_limiter": {"check_interval": "1s", "limit_mib": 128, "spike_limit_mib": 32},
            "batch": {"timeout": "1s", "send_batch_max_size": 50},
        },
        "exporters": {"awsxray": {"indexed_attributes": ["tandem.request_id", "gen_ai.request.model"]}},
        "service": {"pipelines": {"traces": pipeline}},
    }
