"""Facts for sizing and costs: data files with their sources, read into types.

The facts about models are in `services/vllm/models.yaml`, which the engine's launcher also reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

HERE = Path(__file__).parent
MODELS_FILE = HERE.parents[2] / "services/vllm/models.yaml"

HOURS_PER_MONTH = 730
"""365 days x 24 hours / 12 months, as the AWS Pricing Calculator counts."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, if PyYAML was built with it


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU. `visible_gib` is the memory in GiB that CUDA offers; None if it was not measured."""

    name: str
    compute_capability: tuple[int, int]
    visible_gib: float | None
    bfloat16: bool
    min_driver: int = 0
    """The branch of NVIDIA's driver that it needs."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An EC2 instance type.

    `gpu_memory_mib` is per GPU. `usd_per_hour` is the on-demand price in `Prices.region`; None if unknown.
    """

    name: str
    gpu: Gpu
    gpus: int
    gpu_memory_mib: int
    vcpu: int
    memory_mib: int
    instance_store_gb: int
    network_interfaces: int | None
    usd_per_hour: float | None


@dataclass(frozen=True, slots=True)
class Model:
    """A model in `models.yaml`; None means unknown.

    `weights_gib` is the size in `weights_format`; `kv_bytes_per_token` is for the whole model with a 16-bit
    cache; `min_vram_gb` is the minimum GPU memory in GB of vLLM's recipe, per weight format;
    `unquantized_params` stay in 16 bits when the model is quantized.
    """

    name: str
    tool_call_parser: str | None
    gated: bool
    attention: Literal["full", "hybrid_gdn", "hybrid_swa"]
    max_positions: int | None
    weights_format: str
    weights_gib: float | None
    kv_bytes_per_token: int | None
    params: int | None
    kv_heads: int | None
    min_vram_gb: Mapping[str, float]
    attention_heads: int | None
    unquantized_params: int | None
    revision: str | None = None
    images: bool = False


@dataclass(frozen=True, slots=True)
class FargatePrice:
    """Prices in US dollars."""

    vcpu_hour: float
    gb_hour: float


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in US dollars; `prices.yaml` has the source of each."""

    region: str
    date: date
    fargate: Mapping[str, FargatePrice]
    nat_gateway_hour: float
    public_ipv4_hour: float
    load_balancer_hour: float
    load_balancer_capacity_unit_hour: float
    spot_share: float
    gp3_gb_month: float
    gp3_mb_per_s_month: float
    s3_gb_month: float
    ecr_gb_month: float
    secret_month: float
    private_zone_month: float
    dynamodb_write_million: float
    dynamodb_read_million: float
    metric_month: float
    alarm_metric_month: float
    fast_alarm_metric_month: float
    dashboard_month: float
    log_gb: float
    waf_web_acl_month: float
    waf_rule_month: float


@dataclass(frozen=True, slots=True)
class Engine:
    """What the engine's image requires of a machine, and the names that its flags accept.

    `machine_images` maps the SSM parameter of an AMI to its driver branch.
    """

    version: str
    cuda: str
    min_driver: int
    compressed_gb: float
    unpacked_gb: float
    machine_images: Mapping[str, int]
    tool_call_parsers: Sequence[str]
    reasoning_parsers: Sequence[str]
    quantizations: Sequence[str]


@dataclass(frozen=True, slots=True)
class Catalog:
    """All facts. Instances and models are keyed by name, in the order of their files."""

    instances: Mapping[str, Instance]
    models: Mapping[str, Model]
    prices: Prices
    engine: Engine


@cache
def load_catalog() -> Catalog:
    """Reads the data files."""
    gpus = {
        key: Gpu(**facts | {"compute_capability": _version(facts["compute_capability"])})
        for key, facts in _read("gpus.yaml")["gpus"].items()
    }
    instances = _read("instances.yaml")
    prices = _read("prices.yaml")
    if (instances["region"], instances["prices_date"]) != (prices["region"], prices["date"]):
        raise ValueError("catalog: instances.yaml and prices.yaml must have the same region and date")
    engine, served = _read("engine.yaml"), _read(MODELS_FILE)
    if engine["version"] != served["vllm"]:
        raise ValueError(
            f"catalog/engine.yaml is for vLLM {engine['version']}, but services/vllm/models.yaml is for "
            f"{served['vllm']}: update the lists of names in engine.yaml"
        )
    return Catalog(
        instances={
            name: Instance(name=name, **facts | {"gpu": gpus[facts["gpu"]]})
            for name, facts in instances["instances"].items()
        },
        models=_models(served["models"]),
        prices=Prices(
            **prices | {"fargate": {name: FargatePrice(**price) for name, price in prices["fargate"].items()}}
        ),
        engine=Engine(**engine),
    )


def _models(served: Mapping[str, Any]) -> dict[str, Model]:
    return {
        name: Model(
            name=name,
            tool_call_parser=facts["tool_call_parser"],
            gated=facts["gated"],
            attention=facts["attention"],
            max_positions=facts["max_positions"],
            weights_format=facts["weights_format"],
            weights_gib=facts["weights_gib"],
            kv_bytes_per_token=facts["kv_bytes_per_token"],
            params=facts.get("params"),
            kv_heads=facts["kv_heads"],
            min_vram_gb=facts.get("min_vram_gb", {}),
            attention_heads=facts.get("attention_heads"),
            unquantized_params=facts.get("unquantized_params"),
            revision=facts.get("revision"),
            images=facts.get("images", False),
        )
        for name, facts in served.items()
    }


def _read(file: str | Path) -> Any:
    return yaml.load((HERE / file).read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - both are safe


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)
