"""One engine on all GPUs of an instance: the deployment passes the checks, and launch.py can start it."""

from __future__ import annotations

from typing import Any

import pytest

import launch
from infra.deployment.catalog import load_catalog
from infra.deployment.checks import check
from infra.deployment.checks.rule import errors
from infra.deployment.plan import Plan
from infra.serving.engine import engine_environment
from tests.infra.deployment.checks.broken_deployments import SECRET, deployment

LLAMA = {"model__id": "meta-llama/Llama-3.3-70B-Instruct", "model__hf_token_secret_arn": SECRET}
NODES: list[tuple[str, int, dict[str, Any]]] = [
    ("g5.12xlarge", 4, {"model__id": "Qwen/Qwen3-32B"}),
    ("g6.12xlarge", 4, {"model__id": "Qwen/Qwen3-32B", "model__quantization": "fp8"}),
    ("g6.12xlarge", 4, {"model__id": "openai/gpt-oss-20b"}),
    ("g6e.12xlarge", 4, {"model__id": "openai/gpt-oss-120b"}),
    ("g6e.12xlarge", 4, {**LLAMA, "model__quantization": "fp8"}),
    ("g6e.12xlarge", 4, {"model__id": "Qwen/Qwen3.5-27B", "model__kind": "vision"}),
    ("p4d.24xlarge", 8, LLAMA),
    ("p5.48xlarge", 8, {"model__id": "openai/gpt-oss-120b"}),
    ("p5.48xlarge", 8, {**LLAMA, "model__quantization": "fp8", "model__max_model_len": 131_072}),
]
CATALOG = load_catalog()


def node(instance: str, gpus: int, settings: dict[str, Any]) -> Plan:
    return Plan(
        deployment(
            gpu__instance_types=[instance],
            gpu__gpus_per_task=gpus,
            gpu__startup_seconds=3300,
            **settings,
        ),
        CATALOG,
    )


@pytest.mark.parametrize(("instance", "gpus", "settings"), NODES)
def test_one_engine_takes_the_whole_node(instance: str, gpus: int, settings: dict[str, Any]) -> None:
    plan = node(instance, gpus, settings)
    assert [one.describe(plan.deployment) for one in errors(check(plan.deployment))] == []
    assert plan.share.tasks_per_instance == 1
    assert plan.instances[0].gpus == gpus
    argv = launch.build_argv(
        launch.Settings.from_environment(engine_environment(plan.deployment)), launch.load_models()
    )
    assert argv[argv.index("--tensor-parallel-size") + 1] == str(gpus)


def test_node_that_is_too_small_is_reported() -> None:
    plan = node("g5.12xlarge", 4, LLAMA)
    assert "model-fits" in {one.rule for one in errors(check(plan.deployment))}
