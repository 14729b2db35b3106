"""The arithmetic, against what was measured, and what holds whatever the numbers are."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from infra.deployment.catalog import MODELS_FILE, Instance, Model, load_catalog
from infra.deployment.file import Deployment
from infra.deployment.plan import Plan
from infra.deployment.sizing import (
    EngineSize,
    engine_size,
    health_check,
    instances_needed,
    kv_bytes_per_token,
    kv_gib,
    load_seconds,
    registered_memory_mib,
    rollout,
    root_volume_gb,
    task_share,
    tasks_per_instance,
    visible_gib,
    weights_gib,
)

CATALOG = load_catalog()
QWEN_7B = CATALOG.models["Qwen/Qwen2.5-7B-Instruct"]
QWEN_14B = CATALOG.models["Qwen/Qwen2.5-14B-Instruct"]
G5_XLARGE = CATALOG.instances["g5.xlarge"]
A10G_4 = CATALOG.instances["g5.12xlarge"]
L4 = CATALOG.instances["g6.xlarge"]

models = st.sampled_from(sorted(CATALOG.models.values(), key=lambda model: model.name))
instances = st.sampled_from(sorted(CATALOG.instances.values(), key=lambda instance: instance.name))


def size(
    model: Model,
    instance: Instance,
    gpus: int = 1,
    *,
    quantization: str | None = None,
    utilization: float = 0.90,
    kv_cache_dtype: str = "auto",
) -> EngineSize:
    return engine_size(
        model,
        instance,
        dtype="bfloat16",
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
        utilization=utilization,
        tensor_parallel=gpus,
    )


@pytest.mark.parametrize(
    ("model", "instance", "gpus", "measured_tokens"),
    [
        pytest.param(QWEN_7B, A10G_4, 1, 62_688, id="7B on one A10G"),
        pytest.param(QWEN_7B, L4, 1, 62_512, id="7B on one L4"),
        pytest.param(QWEN_7B, A10G_4, 2, 431_344, id="7B on two A10G"),
        pytest.param(QWEN_7B, A10G_4, 4, 1_175_168, id="7B on four A10G"),
        pytest.param(QWEN_14B, A10G_4, 2, 47_504, id="14B on two A10G"),
    ],
)
def test_the_kv_cache_is_predicted_at_080_to_100_of_what_vllm_measured(
    model: Model, instance: Instance, gpus: int, measured_tokens: int
) -> None:
    """vLLM 0.27.1 on g5.12xlarge and 0.28.0 on g6.xlarge, bf16, at a utilization of 0.90."""
    predicted = size(model, instance, gpus).kv_tokens
    assert predicted is not None
    assert 0.80 <= predicted / measured_tokens <= 1.00


def test_what_ran_out_of_memory_is_predicted_to() -> None:
    out_of_memory = size(QWEN_14B, A10G_4, 1)
    assert out_of_memory.kv_tokens == 0
    assert out_of_memory.fits(1) is False


def test_quantized_weights() -> None:
    """A 7B in fp8 takes about 8.2 GiB and in AWQ about 5.3 on the GPU."""
    fp8 = weights_gib(QWEN_7B, dtype="bfloat16", quantization="fp8")
    awq = weights_gib(
        CATALOG.models["Qwen/Qwen2.5-7B-Instruct-AWQ"], dtype="float16", quantization="awq_marlin"
    )
    assert fp8 == pytest.approx(8.2, rel=0.02)
    assert awq == pytest.approx(5.3, rel=0.03)
    assert weights_gib(QWEN_7B, dtype="bfloat16", quantization="awq") is None
    assert weights_gib(QWEN_7B, dtype="float32", quantization=None) == pytest.approx(2 * 14.19)


def test_kv_bytes_per_token() -> None:
    def bytes_of(model: Model, gpus: int, *, dtype: str = "bfloat16", cache: str = "auto") -> float | None:
        return kv_bytes_per_token(model, dtype=dtype, kv_cache_dtype=cache, tensor_parallel=gpus)

    assert bytes_of(QWEN_7B, 1) == 2 * 28 * 4 * 128 * 2
    assert bytes_of(QWEN_7B, 4) == 2 * 28 * 1 * 128 * 2
    assert bytes_of(QWEN_7B, 1, cache="fp8_e4m3") == 2 * 28 * 4 * 128
    assert bytes_of(QWEN_7B, 1, dtype="float32") == 2 * 28 * 4 * 128 * 4
    assert (
        bytes_of(CATALOG.models["Qwen/Qwen2.5-3B-Instruct"], 8) == 2 * 36 * 1 * 128 * 2
    )  # a head each, not a quarter
    assert bytes_of(CATALOG.models["Qwen/Qwen3.5-9B"], 1) is None


def test_hybrid_models_are_held_against_their_recipe() -> None:
    model = CATALOG.models["Qwen/Qwen3.5-9B"]
    assert model.min_vram_gb == {"bf16": 22, "fp8": 11}
    on_24_gb = size(model, G5_XLARGE)
    assert (on_24_gb.kv_tokens, on_24_gb.recipe_gb) == (None, 22)
    assert on_24_gb.offered_gb == pytest.approx(24 * 0.90 / 0.92, rel=0.001)
    assert on_24_gb.fits(16_384) is True
    assert size(model, G5_XLARGE, utilization=0.80).fits(16_384) is False
    assert size(model, G5_XLARGE, utilization=0.80, quantization="fp8").fits(16_384) is True
    assert size(CATALOG.models["Qwen/Qwen3.5-27B"], A10G_4, 4).fits(16_384) is True
    assert size(CATALOG.models["google/gemma-3-4b-it"], G5_XLARGE).fits(16_384) is None


@given(
    visible=st.floats(10, 300),
    utilization=st.floats(0.1, 1),
    weights=st.floats(0.5, 300),
    gpus=st.sampled_from([1, 2, 4, 8]),
)
def test_the_kv_cache_leaves_room_for_the_weights(
    visible: float, utilization: float, weights: float, gpus: int
) -> None:
    cache = kv_gib(visible=visible, utilization=utilization, weights=weights, tensor_parallel=gpus)
    assert cache * gpus + weights <= visible * utilization * gpus
    assert (
        kv_gib(visible=visible, utilization=utilization, weights=weights, tensor_parallel=2 * gpus) >= cache
    )


@given(model=models, instance=instances, gpus=st.sampled_from([1, 2, 4, 8]))
def test_more_memory_never_holds_less(model: Model, instance: Instance, gpus: int) -> None:
    small, large = (size(model, instance, gpus, utilization=share) for share in (0.5, 0.9))
    cramped, roomy = (
        size(model, instance, gpus, kv_cache_dtype="auto"),
        size(model, instance, gpus, kv_cache_dtype="fp8"),
    )
    assert (small.kv_tokens or 0) <= (large.kv_tokens or 0)
    assert (cramped.kv_tokens or 0) <= (roomy.kv_tokens or 0)
    assert small.offered_gb <= large.offered_gb <= instance.gpu_memory_mib * 2**20 / 1e9 * gpus


@given(instance=instances)
def test_a_gpu_shows_less_than_its_nominal_memory(instance: Instance) -> None:
    assert 0.90 < visible_gib(instance) / (instance.gpu_memory_mib / 1024) < 1


def test_the_memory_of_a_g5_xlarge() -> None:
    """ECS registers less than the 16384 MiB of its nominal memory; a task of 24576 MiB is never placed."""
    assert registered_memory_mib(G5_XLARGE) == 15_155
    share = task_share([G5_XLARGE], 1, memory_mib=None, shm_mib=None)
    assert (share.tasks_per_instance, share.cpu, share.memory_mib, share.shm_mib) == (1, 4096, 14_080, 1024)


@given(
    chosen=st.lists(instances, min_size=1, max_size=4),
    gpus=st.sampled_from([1, 2, 4, 8]),
    shm=st.none() | st.integers(64, 8192),
)
def test_as_many_engines_as_an_instance_has_gpus_for_fit_it(
    chosen: list[Instance], gpus: int, shm: int | None
) -> None:
    able = [one for one in chosen if tasks_per_instance(one, gpus)]
    if not able:
        return
    share = task_share(able, gpus, memory_mib=None, shm_mib=shm)
    for one in able:
        tasks = tasks_per_instance(one, gpus)
        assert tasks >= share.tasks_per_instance
        assert (share.memory_mib + share.shm_mib) * tasks <= registered_memory_mib(one) < one.memory_mib
        assert share.cpu * tasks <= one.vcpu * 1024
        assert tasks * gpus <= one.gpus
        assert one.network_interfaces is None or tasks + 1 <= one.network_interfaces


def test_network_interfaces_limit_the_engines_of_an_instance() -> None:
    """A g5.48xlarge has 8 GPUs and 7 interfaces, of which it keeps one."""
    assert tasks_per_instance(CATALOG.instances["g5.48xlarge"], 1) == 6


@given(engines=st.integers(1, 200), each=st.integers(1, 8))
def test_instances_hold_all_engines_and_none_is_too_many(engines: int, each: int) -> None:
    count = instances_needed(engines, each)
    assert (count - 1) * each < engines <= count * each


@given(replicas=st.integers(1, 100), spare=st.booleans())
def test_no_rollout_can_wait_for_ever(replicas: int, spare: bool) -> None:
    """ECS keeps ceil(minimum) tasks and runs at most floor(maximum): one must be free to stop or to start."""
    limits = rollout(replicas, spare=spare)
    kept = math.ceil(replicas * limits.minimum_healthy_percent / 100)
    started = math.floor(replicas * limits.maximum_percent / 100)
    assert started <= replicas + spare
    assert kept < replicas or started > replicas
    if spare:
        assert kept == replicas


@given(least=st.integers(0, 20), more=st.integers(0, 20), spare=st.booleans())
def test_no_rollout_of_a_scaled_service_can_wait_for_ever(least: int, more: int, spare: bool) -> None:
    """The limits are percentages of the number of engines at the time of the release."""
    limits = rollout(least, spare=spare)
    for engines in range(max(least, 1), least + more + 1):
        kept = math.ceil(engines * limits.minimum_healthy_percent / 100)
        started = math.floor(engines * limits.maximum_percent / 100)
        assert kept < engines or started > engines


def test_the_rollout_of_one_engine() -> None:
    assert (rollout(1, spare=False).minimum_healthy_percent, rollout(1, spare=False).maximum_percent) == (
        0,
        100,
    )
    assert (rollout(1, spare=True).minimum_healthy_percent, rollout(1, spare=True).maximum_percent) == (
        100,
        200,
    )


@given(seconds=st.integers(60, 3300))
def test_a_health_check_gives_the_time_asked_within_the_limits_of_ecs(seconds: int) -> None:
    check = health_check(seconds)
    assert check.start_period + check.retries * check.interval >= seconds
    assert 0 <= check.start_period <= 300
    assert 1 <= check.retries <= 10
    assert 5 <= check.interval <= 300


@given(seconds=st.integers(60, 3300))
def test_a_health_check_notices_a_dead_engine_in_less_than_the_time_to_start(seconds: int) -> None:
    check = health_check(seconds)
    assert check.retries * check.interval <= max(90, seconds)


def test_the_default_model_loads_in_minutes() -> None:
    plan = Plan(Deployment(), CATALOG)
    assert plan.weights_gb == pytest.approx(15.2, abs=0.1)
    assert plan.load_seconds is not None
    assert 180 < plan.load_seconds < plan.deployment.gpu.startup_seconds
    assert plan.load_seconds == pytest.approx(load_seconds(15.2), rel=0.01)


def test_the_root_volume_holds_two_images_of_the_engine() -> None:
    assert root_volume_gb(CATALOG.engine) == 100


class TestFacts:
    def test_kv_bytes_follow_from_the_layers(self) -> None:
        document = yaml.safe_load(MODELS_FILE.read_text())["models"]
        checked = 0
        for name, facts in document.items():
            layers = facts.get("full_attention_layers") or facts["layers"]
            if facts["kv_bytes_per_token"] is not None and facts["kv_heads"] is not None:
                assert (
                    facts["kv_bytes_per_token"] == 2 * layers * facts["kv_heads"] * facts["head_dim"] * 2
                ), name
                checked += 1
        assert checked > 20

    def test_weights_follow_from_the_parameters(self) -> None:
        for model in CATALOG.models.values():
            if model.weights_format == "bf16" and model.params and model.weights_gib:
                assert model.weights_gib == pytest.approx(model.params * 2 / 2**30, abs=0.01), model.name

    def test_heads_are_of_models_that_are_served_and_fit_one_another(self) -> None:
        for model in CATALOG.models.values():
            if model.attention == "full":
                assert model.attention_heads is not None, model.name
                assert model.unquantized_params is not None, model.name
                assert model.params is not None
                assert model.unquantized_params < model.params / 3, model.name
            if model.attention_heads and model.kv_heads:
                assert model.attention_heads % model.kv_heads == 0, model.name

    def test_every_parser_that_a_model_needs_is_one_that_the_engine_has(self) -> None:
        document = yaml.safe_load(MODELS_FILE.read_text())
        assert document["vllm"] == CATALOG.engine.version
        for facts in document["models"].values():
            assert facts["tool_call_parser"] in (None, *CATALOG.engine.tool_call_parsers)
            assert facts.get("reasoning_parser") in (None, *CATALOG.engine.reasoning_parsers)

    def test_the_machine_image_that_is_used_drives_the_cuda_of_the_engine(self) -> None:
        drivers = CATALOG.engine.machine_images
        assert {path: driver >= CATALOG.engine.min_driver for path, driver in drivers.items()} == {
            "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id": True,
            "/aws/service/ecs/optimized-ami/amazon-linux-2/gpu/recommended/image_id": False,
        }
