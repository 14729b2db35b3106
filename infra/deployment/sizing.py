"""Sizing of a deployment: whether a model fits on an instance, and what a task gets of it.

Pure functions. GPU memory is in GiB as CUDA reports it, a task's memory in MiB as ECS counts it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .catalog import Engine, Instance, Model

GIB = 2**30

UNMEASURED_GPU_SHARE = 0.91
"""Visible fraction of a GPU's nominal memory, if it was not measured: that of the T4, the lowest measured
(A10G, L4, L40S and H200: 0.99)."""

WEIGHTS_OVERHEAD = 1.04
ENGINE_OVERHEAD_GIB = 2.4
"""Constants of `kv_gib`, fitted to KV cache sizes that vLLM 0.27 and 0.28 logged on one, two and four A10G
and on an L4. It predicts 0.80 to 1.00 of each. tests/infra/deployment/test_sizing.py has the data points."""

RECIPE_UTILIZATION = 0.92
"""vLLM's default --gpu-memory-utilization, which the minimum memory in its recipes assumes
(vllm/config/cache.py)."""

REGISTERED_SHARE = 0.925
"""Fraction of an instance's memory that is sure to be registered with ECS; kernel and hypervisor use some.
Karpenter assumes the same for unknown instance types (VM_MEMORY_OVERHEAD_PERCENT, 0.075)."""

SHM_MIB_PER_GPU = 1024
"""NCCL's guide recommends --shm-size=1g; vLLM's workers share more with each additional GPU."""

DOWNLOAD_MB_PER_S = 100.0
READ_MB_PER_S = 500.0
INITIALIZE_SECONDS = 180.0
"""Cautious values for the download from Hugging Face, the read from NVMe into the GPU, and what follows
(compilation, CUDA graphs, warm-up), which took 94 s including the read on an L40S with cold caches."""

MAX_START_PERIOD_SECONDS = 300
MAX_RETRIES = 10
"""Limits of an ECS container health check (Amazon ECS API reference, HealthCheck)."""
INTERVAL_SECONDS = 30

MACHINE_IMAGE_GB = 10.0
DISK_SPARE_SHARE = 0.2
COMPILE_CACHE_GB = 10.0


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A container health check, in seconds. The time to start is `start_period + retries * interval`."""

    start_period: int
    interval: int
    retries: int


@dataclass(frozen=True, slots=True)
class Rollout:
    """Deployment configuration of an ECS service, in percent of its desired count."""

    minimum_healthy_percent: int
    maximum_percent: int


@dataclass(frozen=True, slots=True)
class TaskShare:
    """An engine's share of an instance: `cpu` in units of 1/1024 vCPU, memory in MiB."""

    tasks_per_instance: int
    cpu: int
    memory_mib: int
    shm_mib: int


def visible_gib(instance: Instance) -> float:
    """Returns the memory in GiB that CUDA offers on one GPU of the instance."""
    nominal = instance.gpu_memory_mib / 1024
    return instance.gpu.visible_gib or nominal * UNMEASURED_GPU_SHARE


def weights_format(model: Model, quantization: str | None) -> str | None:
    """Returns the format of the weights on the GPU; None if vLLM cannot produce it from the model's files.

    vLLM quantizes 16-bit files to fp8 layer by layer as it loads them (fp8, fp8_per_tensor, ...); any other
    format must be that of the files, which a quantization such as awq_marlin has in its name.
    """
    if quantization is None or model.weights_format in quantization:
        return model.weights_format
    return "fp8" if model.weights_format == "bf16" and quantization.startswith("fp8") else None


def weights_gib(model: Model, *, dtype: str, quantization: str | None) -> float | None:
    """Returns the size in GiB of all weights on the GPUs; None if unknown.

    bf16 files: 2 bytes per parameter (4 with dtype float32). fp8: 1 byte; embeddings and output head 2.
    """
    form = weights_format(model, quantization)
    if form == model.weights_format:
        doubled = 2 if form == "bf16" and dtype == "float32" else 1
        return None if model.weights_gib is None else model.weights_gib * doubled
    if form == "fp8" and model.params is not None and model.unquantized_params is not None:
        return (model.params + model.unquantized_params) / GIB
    return None


def kv_bytes_per_token(
    model: Model, *, dtype: str, kv_cache_dtype: str, tensor_parallel: int
) -> float | None:
    """Returns the bytes of KV cache per token on each GPU; None if the model's layers differ.

    2 x layers x kv_heads x head_dim x bytes of the format, divided by GPUs; each GPU has at least one head.
    """
    if model.kv_bytes_per_token is None or model.kv_heads is None or model.attention != "full":
        return None
    width = 1 if kv_cache_dtype.startswith("fp8") else 4 if dtype == "float32" else 2
    heads_per_gpu = max(1.0, model.kv_heads / tensor_parallel)
    return model.kv_bytes_per_token / 2 * width * heads_per_gpu / model.kv_heads


def kv_gib(*, visible: float, utilization: float, weights: float, tensor_parallel: int) -> float:
    """Returns the GiB available for the KV cache on each GPU; negative if the weights do not fit.

    visible x utilization - 1.04 x weights / TP - 2.4 / TP; see ENGINE_OVERHEAD_GIB.
    """
    return visible * utilization - (WEIGHTS_OVERHEAD * weights + ENGINE_OVERHEAD_GIB) / tensor_parallel


@dataclass(frozen=True, slots=True)
class EngineSize:
    """How a model fits on the GPUs of one engine; None means unknown.

    `kv_tokens` is the size of the KV cache in tokens, 0 if the weights alone do not fit. The formula does not
    apply to models with hybrid attention; for those, `recipe_gb` is the minimum GPU memory in GB according to
    vLLM's recipe, and `offered_gb` the available memory.
    """

    weights_gib: float | None
    kv_gib: float | None
    kv_tokens: int | None
    recipe_gb: float | None
    offered_gb: float

    def fits(self, max_model_len: int) -> bool | None:
        """Returns whether the model and one request of `max_model_len` tokens fit; None if unknown."""
        if self.kv_tokens is not None:
            return self.kv_tokens >= max_model_len
        return None if self.recipe_gb is None else self.recipe_gb <= self.offered_gb


def engine_size(
    model: Model,
    instance: Instance,
    *,
    dtype: str,
    quantization: str | None,
    kv_cache_dtype: str,
    utilization: float,
    tensor_parallel: int,
) -> EngineSize:
    """Sizes a model on `tensor_parallel` GPUs of an instance."""
    weights = weights_gib(model, dtype=dtype, quantization=quantization)
    per_token = kv_bytes_per_token(
        model, dtype=dtype, kv_cache_dtype=kv_cache_dtype, tensor_parallel=tensor_parallel
    )
    cache = None
    if weights is not None and per_token is not None:
        cache = kv_gib(
            visible=visible_gib(instance),
            utilization=utilization,
            weights=weights,
            tensor_parallel=tensor_parallel,
        )
    nominal_gb = instance.gpu_memory_mib * 2**20 / 1e9 * tensor_parallel
    return EngineSize(
        weights_gib=weights,
        kv_gib=cache,
        kv_tokens=None if cache is None or not per_token else max(0, int(cache * GIB / per_token)),
        recipe_gb=model.min_vram_gb.get(weights_format(model, quantization) or ""),
        offered_gb=nominal_gb * min(1.0, utilization / RECIPE_UTILIZATION),
    )


def weights_bound_gb(model: Model, size: EngineSize) -> float | None:
    """Returns an upper bound in GB for the model's files: their size, or the recipe's memory."""
    files = model.weights_gib if model.weights_gib is not None else size.weights_gib
    return files * GIB / 1e9 if files is not None else size.recipe_gb


def load_seconds(weights_gb: float) -> float:
    """Returns a cautious estimate of an engine's seconds from start to first answer, with cold caches."""
    return weights_gb * 1000 / DOWNLOAD_MB_PER_S + weights_gb * 1000 / READ_MB_PER_S + INITIALIZE_SECONDS


def registered_memory_mib(instance: Instance) -> int:
    """Returns the MiB of memory that an instance is sure to register with ECS."""
    return int(instance.memory_mib * REGISTERED_SHARE)


def tasks_per_instance(instance: Instance, gpus_per_task: int) -> int:
    """Returns the engines that fit, by GPUs and network interfaces (one per task and one for the host)."""
    by_gpu = instance.gpus // gpus_per_task
    return by_gpu if instance.network_interfaces is None else min(by_gpu, instance.network_interfaces - 1)


def task_share(
    instances: Sequence[Instance], gpus_per_task: int, *, memory_mib: int | None, shm_mib: int | None
) -> TaskShare:
    """Returns an engine's share of an instance; for several types, a share that fits on each.

    Args:
        instances: At least one type, each with at least `gpus_per_task` GPUs.
        memory_mib: Memory, if not as much as possible.
        shm_mib: Size of /dev/shm, if not `SHM_MIB_PER_GPU` per GPU.
    """
    shm = shm_mib if shm_mib is not None else SHM_MIB_PER_GPU * gpus_per_task
    tasks = [tasks_per_instance(instance, gpus_per_task) for instance in instances]
    shares = [
        registered_memory_mib(instance) // count - shm
        for instance, count in zip(instances, tasks, strict=True)
    ]
    cpus = [instance.vcpu * 1024 // count for instance, count in zip(instances, tasks, strict=True)]
    memory = memory_mib if memory_mib is not None else min(shares) // 256 * 256
    return TaskShare(min(tasks), min(cpus), memory, shm)


def instances_needed(engines: int, tasks_per_instance: int) -> int:
    """Returns the number of instances for this many engines."""
    return math.ceil(engines / tasks_per_instance)


def wanted_vcpu(gpus: int) -> int:
    """Returns the vCPU that vLLM recommends: 2 + GPUs physical cores (docs/configuration/optimization.md)."""
    return 2 * (2 + gpus)


def root_volume_gb(engine: Engine, files_gb: float = 0) -> int:
    """Returns the GB of a root volume: machine image, two engine images during a release, and 20% spare.

    Args:
        engine: The engine's image.
        files_gb: Weights and caches that are on this volume too.
    """
    held = MACHINE_IMAGE_GB + 2 * engine.unpacked_gb + engine.compressed_gb + files_gb
    return math.ceil(held / (1 - DISK_SPARE_SHARE))


def instance_store_gb(weights_gb: float, engine: Engine) -> float:
    """Returns the GB of an instance store: two revisions of the weights, the caches, and two images."""
    images = 2 * engine.unpacked_gb + engine.compressed_gb
    return 2 * weights_gb + COMPILE_CACHE_GB + images


def health_check(startup_seconds: int) -> HealthCheck:
    """Returns a container health check that gives an engine `startup_seconds` to load.

    Args:
        startup_seconds: At most 300 + 10 x 300, which is ECS's limit.
    """
    start_period = min(startup_seconds, MAX_START_PERIOD_SECONDS)
    rest = startup_seconds - start_period
    retries = min(max(math.ceil(rest / INTERVAL_SECONDS), 3), MAX_RETRIES)
    return HealthCheck(start_period, max(INTERVAL_SECONDS, math.ceil(rest / retries)), retries)


def rollout(least: int, *, spare: bool) -> Rollout:
    """Returns limits with which a release of `least` engines or more, each on its own GPUs, completes.

    With a spare, an engine starts before another stops; without one, it stops first. ECS rounds the minimum
    up and the maximum down.
    """
    fewest = max(least, 1)
    if spare:
        return Rollout(100, math.ceil(100 * (fewest + 1) / fewest))
    return Rollout(100 * (fewest - 1) // fewest, 100)
