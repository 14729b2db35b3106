"""Combines a deployment's settings with the facts about its model and instances."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .catalog import Catalog, Instance, Model
from .file import Deployment
from .model_size import sized_model
from .schedule import Limits, all_limits, shares
from .sizing import (
    COMPILE_CACHE_GB,
    EngineSize,
    TaskShare,
    engine_size,
    instances_needed,
    load_seconds,
    root_volume_gb,
    task_share,
    tasks_per_instance,
    weights_bound_gb,
)

RECOMMENDED_AMI = "recommended"
AMI_PARAMETER = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
"""Newest ECS-optimized Amazon Linux 2023 for GPUs."""


SCALE_DOWN_SHARE = 0.4
"""Of `scale_up_at`. With less than half, the engine that is left of two does not call the other one back."""

_LINGER_MINUTES = 20
"""More than the time for which an instance runs on after its engine has stopped."""

_MINUTES_PER_DAY = 1440
"""CloudWatch's longest evaluation of an alarm."""

ROOT_VOLUME_MB_PER_S, IMAGE_VOLUME_MB_PER_S = 125, 400
"""Throughput of a gp3 volume: what its price contains, and what unpacks an image in a minute or two."""

INSTANCE_SECONDS = 300
"""For an instance to start and join the cluster, and to pull and unpack the engine's image."""


@dataclass(frozen=True)
class Plan:
    """A deployment and what follows from it. Unknown models and instance types are omitted."""

    deployment: Deployment
    catalog: Catalog

    @cached_property
    def entries(self) -> tuple[Plan, ...]:
        """The plans of all models of the deployment, in the order of the file."""
        return tuple(Plan(seen, self.catalog) for seen in self.deployment.entries)

    @property
    def label(self) -> str:
        """The entry's name as part of the names of its resources; "" for the main one."""
        parts = [] if self.deployment.is_main else self.deployment.entry.split("-")
        return "".join(part.capitalize() for part in parts)

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

    @property
    def takes_images(self) -> bool:
        """Whether the engine accepts images, as far as the model is known."""
        only_text = "--language-model-only" in self.deployment.model.extra_args
        return self.model is not None and self.model.images and not only_text

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
    def images_on_instance_store(self) -> bool:
        """Whether local disks hold images and caches. A stop wipes them, so warm instances use the volume."""
        return self.has_instance_store and not self.deployment.gpu.warm_instances

    @property
    def root_volume_mb_per_s(self) -> int:
        """The throughput of the root volume, which is more where images are unpacked on it."""
        return ROOT_VOLUME_MB_PER_S if self.images_on_instance_store else IMAGE_VOLUME_MB_PER_S

    @cached_property
    def root_volume_gb(self) -> int:
        """The GB that the root volume needs, with the weights and caches of warm instances."""
        files = 2 * (self.weights_gb or 0) + COMPILE_CACHE_GB if self.deployment.gpu.warm_instances else 0
        return root_volume_gb(self.catalog.engine, files)

    @cached_property
    def limits(self) -> Limits:
        """The smallest and the largest number of engines at any time, by the settings and their schedule."""
        every = all_limits(self.deployment.gpu)
        return Limits(min(one.least for one in every), max(one.most for one in every))

    @cached_property
    def is_scaled(self) -> bool:
        """Whether Application Auto Scaling owns the number of engines, because something may change it."""
        guarded = self.deployment.gpu.max_instance_hours_per_day is not None
        return self.limits.least < self.limits.most or guarded

    @cached_property
    def sleeps(self) -> bool:
        """Whether the engines stop when nobody asks and start again when somebody does."""
        return any(one.least == 0 < one.most for one in all_limits(self.deployment.gpu))

    @cached_property
    def instance_count(self) -> int:
        """The maximum number of running instances, including the spare one."""
        return self.instances_for(self.limits.most)

    def instances_for(self, engines: int) -> int:
        """Returns the number of instances for some engines: the spare one is there unless there are none."""
        spare = int(self.deployment.gpu.spare_instance and engines > 0)
        return instances_needed(engines, self.share.tasks_per_instance) + spare

    @cached_property
    def idle_instances(self) -> float:
        """The average number of instances of a month without requests."""
        return sum(
            self.instances_for(limits.least) * share for limits, share in shares(self.deployment.gpu).items()
        )

    @cached_property
    def protects_instances(self) -> bool:
        """Whether instances with engines are protected from scale-in, as one of several might be ended."""
        return self.limits.least < self.limits.most and self.instance_count > 1

    @property
    def start_seconds(self) -> int:
        """A cautious estimate of the seconds from the decision to start an engine to its first answer."""
        load = self.deployment.gpu.startup_seconds if self.load_seconds is None else self.load_seconds
        return round(INSTANCE_SECONDS + load)

    @property
    def unused_minutes(self) -> int:
        """Minutes after which an instance is given up on which no engine answers, and for which nobody waits.

        An instance runs on for about a quarter of an hour after its engine has stopped, which is not meant.
        """
        return min(self.deployment.gpu.idle_minutes + _LINGER_MINUTES, _MINUTES_PER_DAY)

    @property
    def scale_up_at(self) -> float:
        """Requests per engine above which another engine starts."""
        return self.deployment.gpu.scale_up_at * self.deployment.model.max_num_seqs

    @property
    def scale_down_at(self) -> float:
        """Requests per engine below which an engine stops."""
        return round(SCALE_DOWN_SHARE * self.scale_up_at, 2)

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

    @property
    def model_revision(self) -> str:
        """The commit, tag or branch of the model that engines serve."""
        given, known = self.deployment.model, self.model
        return given.revision or (known.revision if known else None) or "main"

    @property
    def model_prefix(self) -> str:
        """Where the mirror of the model is in the bucket: another revision has another place."""
        return f"models/{self.deployment.model.id}/{self.model_revision}"

    @cached_property
    def load_seconds(self) -> float | None:
        """A cautious estimate of the seconds until a new engine answers; None if unknown."""
        return None if self.weights_gb is None else load_seconds(self.weights_gb)
