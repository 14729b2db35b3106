"""One model and everything that serves it."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import aws_ecs as ecs

from infra.deployment.plan import Plan

from .engine import Engine
from .gpu_instances import GpuCapacity


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model, its cluster, its instances and its engines."""

    plan: Plan
    cluster: ecs.Cluster
    capacity: GpuCapacity
    engine: Engine
