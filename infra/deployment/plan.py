"""Combines a deployment's settings with the facts about its model and instances."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .catalog import Catalog, Instance, Model
from .file import Deployment
from .model_size import sized_model
from .sizing import (
    EngineSize,
    TaskShare,
    engine_size,
    instances_needed,
    load_seconds,
    task_share,
    tasks_per_instance,
    weights_bound_gb,
)

RECOMMENDED_AMI = "recommended"
AMI_PARAMETER = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
"""Newest ECS-optimized Amazon Linux 2023 for GPUs."""


@dataclass(frozen=True)
class Plan:
    """A deployment and what follows from it. Unknown models and instance types are omitted."""

    deployment: Deployment
    catalog: Catalog

    @cached_property
    def model(self) -> Model | None:
        """The facts about the model; None if neither `models.yaml` nor `model.size` has them."""
        given = self.deployment.model
        known = self.catalog.models.get(given.id)
        if given.size is None:
            return known
        try:
            return sized_model(given.id, given.size, known)
        except ValueError:
            return known  # the rule model-size reports it

    @property
    def tool_call_parser(self) -> str | None:
        """vLLM's parser for the model's calls, `none` where it serves without tools; None where not known."""
        known = self.model.tool_call_parser if self.model else None
        return self.deployment.model.tool_call_parser or known

    @cached_property
    def known_instances(self) -> tuple[Instance, ...]:
        """The instance types that are in the catalog, the preferred one first."""
        known = self.catalog.instances
        return tuple(known[name] for name in self.deployment.gpu.instance_types if name in known)

    @cached_property
    def instances(self) -> tuple[Instance, ...]:
        """The known instance types that have room for an engine."""
        gpus = self.deployment.gpu.gpus_per_task
        return tuple(one for one in self.known_instances if tasks_per_instance(one, gpus) > 0)

    def size(self, instance: Instance) -> EngineSize | None:
        """Returns how the model fits on an engine's GPUs; None for an unknown model."""
        if self.model is None:
            return None
        settings = self.deployment.model
        return engine_size(
            self.model,
            instance,
            dtype=settings.dtype,
            quantization=settings.quantization,
            kv_cache_dtype=settings.kv_cache_dtype,
            utilization=settings.gpu_memory_utilization,
            tensor_parallel=self.deployment.gpu.gpus_per_task,
        )

    @cached_property
    def share(self) -> TaskShare:
        """An engine's share of an instance.

        Raises:
            ValueError: No instance type of the deployment has room for an engine.
        """
        gpu = self.deployment.gpu
        if not self.instances:
            raise ValueError(
                f"gpu.instance_types: none of {', '.join(gpu.instance_types)} is known to have room for an "
                f"engine with {gpu.gpus_per_task} GPUs"
            )
        return task_share(
            self.instances, gpu.gpus_per_task, memory_mib=gpu.task_memory_mib, shm_mib=gpu.shm_mib
        )

    @property
    def driver(self) -> int:
        """The branch of NVIDIA's driver on the machine image."""
        return self.catalog.engine.machine_images[AMI_PARAMETER]

    @cached_property
    def has_instance_store(self) -> bool:
        """Whether every instance type has local disks."""
        return all(instance.instance_store_gb > 0 for instance in self.instances)

    @cached_property
    def instance_count(self) -> int:
        """The number of running instances, including the spare one."""
        gpu = self.deployment.gpu
        return instances_needed(gpu.replicas, self.share.tasks_per_instance) + int(gpu.spare_instance)

    @cached_property
    def target_capacity_percent(self) -> int:
        """The share of the instances that the engines need; the rest is the spare one."""
        needed = self.instance_count - int(self.deployment.gpu.spare_instance)
        return 100 * needed // self.instance_count

    @cached_property
    def on_demand_count(self) -> int:
        """Instances that are bought on demand; the others are spot instances."""
        gpu = self.deployment.gpu
        if gpu.capacity == "on_demand":
            return self.instance_count
        base = int(self.instance_count > 1) if gpu.on_demand_base is None else gpu.on_demand_base
        return min(base, self.instance_count)

    @cached_property
    def weights_gb(self) -> float | None:
        """The maximum size of the model's files in GB; None if unknown."""
        if self.model is None or not self.instances:
            return None
        size = self.size(self.instances[0])
        return None if size is None else weights_bound_gb(self.model, size)

    @cached_property
    def load_seconds(self) -> float | None:
        """A cautious estimate of the seconds until a new engine answers; None if unknown."""
        return None if self.weights_gb is None else load_seconds(self.weights_gb)
