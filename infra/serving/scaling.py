"""Auto scaling of the orchestrator by the CPU of its tasks."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ecs as ecs

from infra.deployment.settings import Orchestrator as Settings


def scale_on_cpu(service: ecs.FargateService, *, settings: Settings) -> None:
    """Keeps the tasks' CPU near its target by running between `min_tasks` and `max_tasks`."""
    # Auto scaling decides how many tasks run; a desired count here would reset it with every release.
    resource = service.node.find_child("Service")
    if isinstance(resource, ecs.CfnService):
        resource.desired_count = None
    tasks = service.auto_scale_task_count(min_capacity=settings.min_tasks, max_capacity=settings.max_tasks)
    tasks.scale_on_cpu_utilization(
        "Cpu",
        target_utilization_percent=settings.target_cpu_percent,
        scale_out_cooldown=cdk.Duration.seconds(60),
        scale_in_cooldown=cdk.Duration.seconds(300),
    )
