"""Rules on the GPU instances, and an engine's share of one."""

from __future__ import annotations

import math
from collections.abc import Iterator

from infra.deployment.catalog import HOURS_PER_MONTH
from infra.deployment.plan import Plan
from infra.deployment.sizing import (
    instance_store_gb,
    registered_memory_mib,
    tasks_per_instance,
)

from .candidates import nearest, other_instances
from .rule import Changes, Found, Severity, rule

LEAST_TASK_MEMORY_MIB = 4096
"""vLLM's three processes use about 3 GB before the first request (measured with vLLM 0.32)."""

MOST_STARTUP_SECONDS = 3300


def _known_instances(plan: Plan) -> Iterator[Changes]:
    types, known = plan.deployment.gpu.instance_types, plan.catalog.instances
    yield {"gpu.instance_types": tuple(one if one in known else nearest(one, known)[0] for one in types)}
    yield from ({"gpu.instance_types": (name,)} for one in types for name in nearest(one, known))


@rule("instance-type", Severity.ERROR, _known_instances)
def instance_type(plan: Plan) -> Found[str]:
    """Every instance type is in the catalog of types with NVIDIA GPUs."""
    for name in plan.deployment.gpu.instance_types:
        if name not in plan.catalog.instances:
            yield (
                "gpu.instance_types",
                f"unknown instance type {name}; it must be a known type with NVIDIA GPUs",
            )
            return


def _fewer_gpus(plan: Plan) -> Iterator[Changes]:
    most = min((one.gpus for one in plan.known_instances), default=0)
    return ({"gpu.gpus_per_task": gpus} for gpus in range(most, 0, -1))


@rule("gpus-per-task", Severity.ERROR, _fewer_gpus, other_instances)
def gpus_per_task(plan: Plan) -> Found[str]:
    """Every instance type has enough GPUs for an engine."""
    wanted = plan.deployment.gpu.gpus_per_task
    for instance in plan.known_instances:
        if instance.gpus < wanted:
            yield (
                "gpu.gpus_per_task",
                f"an engine with {wanted} GPUs does not fit on {instance.name}, which has {instance.gpus}",
            )
            return


@rule("gpu-driver", Severity.ERROR, other_instances)
def gpu_driver(plan: Plan) -> Found[str]:
    """The machine image has a driver for the GPU."""
    for instance in plan.known_instances:
        if instance.gpu.min_driver > plan.driver:
            yield (
                "gpu.instance_types",
                f"the {instance.gpu.name} of {instance.name} needs NVIDIA driver {instance.gpu.min_driver}, "
                f"and the machine image has {plan.driver}",
            )
            return


def _task_memories(plan: Plan) -> Iterator[Changes]:
    if plan.instances:
        fits = plan.share.memory_mib if plan.deployment.gpu.task_memory_mib is None else _spare_mib(plan)
        yield {"gpu.task_memory_mib": fits}
    yield {"gpu.task_memory_mib": None}


def _spare_mib(plan: Plan) -> int:
    of_each = [
        registered_memory_mib(one) // tasks_per_instance(one, plan.deployment.gpu.gpus_per_task)
        for one in plan.instances
    ]
    return (min(of_each) - plan.share.shm_mib) // 256 * 256


@rule(
    "task-memory",
    Severity.ERROR,
    _task_memories,
    lambda _: [{"gpu.shm_mib": None}],
    other_instances,
)
def task_memory(plan: Plan) -> Found[str]:
    """ECS places a task only if its memory is free; instances register less than their nominal memory."""
    gpu = plan.deployment.gpu
    setting = "gpu.shm_mib" if gpu.task_memory_mib is None else "gpu.task_memory_mib"
    for instance in plan.instances:
        tasks, share = tasks_per_instance(instance, gpu.gpus_per_task), plan.share
        registered = registered_memory_mib(instance)
        of = f"{registered} MiB (of {instance.memory_mib}) that {instance.name} is sure to register with ECS"
        if (share.memory_mib + share.shm_mib) * tasks > registered:
            yield (
                setting,
                f"{tasks} x ({share.memory_mib} MiB of memory + {share.shm_mib} MiB of /dev/shm) is more "
                f"than the {of}",
            )
            return
        if share.memory_mib < LEAST_TASK_MEMORY_MIB:
            yield (
                setting,
                f"{share.shm_mib} MiB of /dev/shm leaves an engine {share.memory_mib} MiB of the {of}; "
                f"it needs {LEAST_TASK_MEMORY_MIB}",
            )
            return


def _engines_to_fill(plan: Plan) -> Iterator[Changes]:
    for instance in plan.instances[:1]:
        for gpus in range(instance.gpus, 0, -1):
            yield {"gpu.gpus_per_task": gpus}


def _replicas_to_fill(plan: Plan) -> Iterator[Changes]:
    if plan.instances:
        gpu = plan.deployment.gpu
        setting = "gpu.max_replicas" if gpu.max_replicas is not None else "gpu.replicas"
        yield from ({setting: more} for more in range(gpu.most + 1, gpu.most + 16))


@rule("idle-gpus", Severity.WARNING, other_instances, _engines_to_fill, _replicas_to_fill)
def idle_gpus(plan: Plan) -> Found[str]:
    """Unused GPUs cost money."""
    gpu = plan.deployment.gpu
    for instance in plan.instances[:1]:
        running = plan.instance_count * instance.gpus
        used = (plan.limits.most + int(gpu.spare_instance)) * gpu.gpus_per_task
        if used < running:
            idle = running - used
            cost = (instance.usd_per_hour or 0) / instance.gpus * idle * HOURS_PER_MONTH
            yield (
                "gpu.instance_types",
                f"{idle} of the {running} GPUs of {plan.instance_count} x {instance.name} are unused"
                + (f" (${cost:,.0f} per month)" if cost else ""),
            )
            return


@rule("root-volume", Severity.ERROR, lambda plan: [{"gpu.root_volume_gib": plan.root_volume_gb}])
def root_volume(plan: Plan) -> Found[str]:
    """The root volume has room for the engine's images, and for the files of warm instances."""
    engine, given = plan.catalog.engine, plan.deployment.gpu.root_volume_gib
    if given >= plan.root_volume_gb:
        return
    weights = f", and two revisions of {plan.weights_gb:.0f} GB of weights" if plan.weights_gb else ""
    yield (
        "gpu.root_volume_gib",
        f"{given} GiB is too small for the machine image and, during a release, two engine images of "
        f"{engine.unpacked_gb:g} GB unpacked plus {engine.compressed_gb:g} GB of download"
        + (f"{weights} and caches (gpu.warm_instances)" if plan.deployment.gpu.warm_instances else ""),
    )


@rule("instance-store", Severity.ERROR, other_instances)
def instance_store(plan: Plan) -> Found[str]:
    """The instance store has room for weights, caches and images."""
    if plan.weights_gb is None:
        return
    wanted = instance_store_gb(plan.weights_gb, plan.catalog.engine)
    for instance in plan.instances:
        if instance.instance_store_gb < wanted:
            yield (
                "gpu.instance_types",
                f"the instance store of {instance.name} has {instance.instance_store_gb} GB, but two "
                f"revisions of {plan.weights_gb:.0f} GB of weights, the caches and two images need "
                f"{wanted:.0f} GB",
            )
            return


def _longer_startup(plan: Plan) -> Iterator[Changes]:
    seconds = math.ceil((plan.load_seconds or 0) / 60) * 60
    if seconds <= MOST_STARTUP_SECONDS:
        yield {"gpu.startup_seconds": seconds}


@rule("startup", Severity.ERROR, _longer_startup)
def startup(plan: Plan) -> Found[str]:
    """An engine that takes longer to load than its health check allows is replaced again and again."""
    given, needed = plan.deployment.gpu.startup_seconds, plan.load_seconds
    if needed is None or given >= needed:
        return
    yield (
        "gpu.startup_seconds",
        f"{given} s is too short to download and load {plan.weights_gb:.0f} GB of weights, which may take "
        f"{needed:.0f} s",
    )


@rule(
    "spot",
    Severity.WARNING,
    lambda _: [{"gpu.spare_instance": True}],
    lambda _: [{"gpu.capacity": "on_demand"}],
)
def spot(plan: Plan) -> Found[str]:
    """AWS reclaims spot instances with two minutes' notice; loading the model takes longer."""
    gpu = plan.deployment.gpu
    if gpu.capacity == "on_demand" or gpu.spare_instance:
        return
    gap = f", and its replacement needs about {plan.load_seconds:.0f} s to load" if plan.load_seconds else ""
    yield (
        "gpu.capacity",
        f"AWS may reclaim a spot instance with two minutes' notice{gap}; there is no spare instance",
    )


@rule("spot-base", Severity.WARNING, lambda _: [{"gpu.on_demand_base": None}])
def spot_base(plan: Plan) -> Found[str]:
    """The on-demand base leaves room for spot instances, and is set only where there are any."""
    gpu = plan.deployment.gpu
    if gpu.on_demand_base is None or not plan.instances:
        return
    if gpu.capacity == "on_demand":
        yield ("gpu.on_demand_base", f"{gpu.on_demand_base} has no effect: gpu.capacity is on_demand")
    elif gpu.on_demand_base >= plan.instance_count:
        yield (
            "gpu.on_demand_base",
            f"{gpu.on_demand_base} of {plan.instance_count} instances are bought on demand, so none is spot",
        )


RULES = (
    instance_type,
    gpus_per_task,
    gpu_driver,
    task_memory,
    idle_gpus,
    root_volume,
    instance_store,
    startup,
    spot,
    spot_base,
)
