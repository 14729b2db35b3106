"""The rules on the deployment file: each finds its problem, and its fixes work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from engine_start.settings import OWN_FLAGS, SECRET_FLAGS
from infra.deployment.catalog import load_catalog
from infra.deployment.checks import RULES, check, model_kinds
from infra.deployment.checks.model import FLAGS
from infra.deployment.checks.orchestrator import FARGATE_MEMORY_MIB
from infra.deployment.checks.rule import Finding, Severity, errors
from infra.deployment.file import Deployment, load_deployment
from infra.deployment.plan import Plan
from infra.deployment.sizing import registered_memory_mib, tasks_per_instance, visible_gib
from tests.infra.deployment.checks.broken_deployments import BROKEN, SECRET, deployment

CATALOG = load_catalog()


def found(one: Deployment, rule: str) -> Finding[str]:
    return next(finding for finding in check(one) if finding.rule == rule)


def test_default_deployment_has_no_findings() -> None:
    assert check(Deployment()) == []


WITHOUT_FIX = {
    "gated-model", "model-size", "model-not-sized",
    "tool-files", "variables", "secret-values", "secret-names",
    "audio-libraries", "model-names", "name-characters", "fallback", "adapters-from-shared",
    "tool-egress", "mcp-servers", "mcp-egress", "tool-permissions", "existing-vpc", "schedule-limits",
}  # fmt: skip
"""A token, the size of an unmeasured model, what is yours: no value can be found by trying."""


def fixed(broken: Deployment, finding: Finding[str], after: list[Finding[str]]) -> bool:
    """Returns whether the finding is gone without a new error or, for a warning, without any new finding."""
    before = check(broken)
    rules, stopping = ({one.rule for one in some} for some in (before, errors(before)))
    no_worse = {one.rule for one in errors(after)} <= stopping
    if finding.severity is Severity.WARNING:
        no_worse = {one.rule for one in after} <= rules
    return no_worse and finding.rule not in {one.rule for one in after}


def test_every_rule_has_a_broken_deployment() -> None:
    assert set(BROKEN) == {rule.name for rule in RULES}
    assert len(RULES) == len({rule.name for rule in RULES})


@pytest.mark.parametrize(("rule", "broken"), [(rule, one) for rule, many in BROKEN.items() for one in many])
def test_problem_is_found_and_a_working_value_is_offered(rule: str, broken: Deployment) -> None:
    finding = found(broken, rule)
    assert finding.message
    assert bool(finding.fixes) == (rule not in WITHOUT_FIX)
    for fix in finding.fixes:
        assert fixed(broken, finding, check(fix.apply(broken)))


@pytest.mark.parametrize(
    ("settings", "rule", "fix"),
    [
        ({"model__id": "Qwen/Qwen3-8B"}, "model-fits", "gpu.instance_types: [g6e.xlarge]"),
        ({"model__id": "Qwen/Qwen3-8B"}, "model-fits", "model.max_model_len: 11264"),
        ({"model__id": "Qwen/Qwen3-8B"}, "model-fits", "model.quantization: fp8"),
        (
            {"model__id": "Qwen/Qwen2.5-14B-Instruct"},
            "model-fits",
            "gpu.instance_types: [g6.12xlarge] with gpu.gpus_per_task: 4",
        ),
        ({"gpu__task_memory_mib": 24_576}, "task-memory", "gpu.task_memory_mib: 14080"),
        ({"gpu__task_memory_mib": 24_576}, "task-memory", "gpu.instance_types: [g5.2xlarge]"),
        ({"gpu__shm_mib": 12_000}, "task-memory", "gpu.shm_mib: null"),
        ({"model__max_model_len": 40_000}, "context-length", "model.max_model_len: 32768"),
        ({"gpu__root_volume_gib": 30}, "root-volume", "gpu.root_volume_gib: 100"),
        ({"gpu__capacity": "spot"}, "spot", "gpu.spare_instance: true"),
        ({"ingress__idle_timeout_seconds": 60}, "idle-timeout", "ingress.idle_timeout_seconds: 330"),
        ({"orchestrator__memory_mib": 1024}, "fargate-size", "orchestrator.memory_mib: 2048"),
        ({"network__nat": "none"}, "nat", "network.nat: one"),
        (
            {"model__extra_args": ["--enforce-eager", "--max-model-len", "4096", "--seed=1"]},
            "extra-args",
            "model.extra_args: [--enforce-eager, --seed=1]",
        ),
    ],
)
def test_offered_value(settings: dict[str, Any], rule: str, fix: str) -> None:
    assert fix in [str(one) for one in found(deployment(**settings), rule).fixes]


def test_message_contains_the_numbers() -> None:
    message = found(deployment(gpu__task_memory_mib=24_576), "task-memory").message
    for number in ("24576 MiB", "1024 MiB", "15155 MiB", "16384", "g5.xlarge"):
        assert number in message
    message = found(deployment(model__id="Qwen/Qwen3-8B"), "model-fits").message
    for number in ("16384 tokens", "19.9 GiB", "15.3 GiB", "1.6 GiB", "A10G", "gpu_memory_utilization 0.9"):
        assert number in message


def test_finding_names_file_line_severity_setting_and_fix(tmp_path: Path) -> None:
    path = tmp_path / "tandem.yaml"
    path.write_text("gpu:\n  instance_types: [g5.2xlarge]\n  root_volume_gib: 30\n")
    broken = load_deployment(path)
    (finding,) = check(broken)
    assert finding.describe(broken) == (
        f"{path}:3: error: gpu.root_volume_gib: 30 GiB is too small for the machine image and, during a "
        "release, two engine images of 29 GB unpacked plus 12 GB of download. Fix: gpu.root_volume_gib: 100. "
        "[root-volume]"
    )


def test_fixes_of_all_findings_agree() -> None:
    broken = deployment(model__id="Qwen/Qwen2.5-72B-Instruct", gpu__capacity="spot", gpu__startup_seconds=60)
    findings = check(broken)
    values: dict[str, set[str]] = {}
    for finding in findings:
        for fix in finding.fixes:
            for setting, value in fix.changes.items():
                values.setdefault(setting, set()).add(str(value))
    assert len(values["gpu.instance_types"]) == 1


def test_unknown_model_gets_the_list_of_parsers_and_a_way_to_state_its_size() -> None:
    unknown = found(deployment(model__id="acme/Model-1"), "tool-parser")
    for parser in CATALOG.engine.tool_call_parsers:
        assert parser in unknown.message
    unsized = found(deployment(model__id="acme/Model-1"), "model-not-sized")
    assert "model.size" in unsized.message


def test_errors_come_first() -> None:
    findings = check(deployment(gpu__root_volume_gib=30, model__max_num_seqs=128))
    assert [finding.severity for finding in findings] == [Severity.ERROR, Severity.WARNING]
    assert [finding.rule for finding in errors(findings)] == ["root-volume"]


def test_a_secret_in_the_arguments_is_not_repeated() -> None:
    finding = found(deployment(model__extra_args=["--api-key=sk-secret"]), "extra-args")
    assert "sk-secret" not in finding.describe(Deployment())


def test_every_flag_that_the_launcher_sets_is_rejected() -> None:
    assert {*OWN_FLAGS, *SECRET_FLAGS} - {"--model-revision"} <= set(FLAGS)


def test_every_setting_named_for_a_flag_exists() -> None:
    for setting in filter(None, FLAGS.values()):
        section, name = setting.split(".")
        assert name in type(getattr(Deployment(), section)).model_fields


DEPLOYMENTS = st.fixed_dictionaries(
    {},
    optional={
        "model__id": st.sampled_from([*CATALOG.models, "acme/Model-1"]),
        "model__quantization": st.sampled_from([None, "fp8", "awq", "fp8_per_block"]),
        "model__dtype": st.sampled_from(["auto", "bfloat16", "float16", "float32"]),
        "model__kv_cache_dtype": st.sampled_from(["auto", "fp8"]),
        "model__max_model_len": st.sampled_from([1024, 8192, 16_384, 32_768, 131_072]),
        "model__gpu_memory_utilization": st.floats(0.3, 1),
        "model__max_num_seqs": st.integers(1, 256),
        "model__tool_call_parser": st.sampled_from([None, "hermes", "none"]),
        "model__hf_token_secret_arn": st.just(SECRET),
        "gpu__instance_types": st.lists(
            st.sampled_from([*CATALOG.instances, "m5.large"]), min_size=1, max_size=2
        ),
        "gpu__gpus_per_task": st.sampled_from([1, 2, 3, 4, 8]),
        "gpu__replicas": st.integers(1, 9),
        "gpu__min_replicas": st.integers(0, 4),
        "gpu__max_replicas": st.integers(1, 9),
        "gpu__idle_minutes": st.integers(1, 60),
        "gpu__scale_up_at": st.floats(0.1, 4),
        "gpu__schedule": st.lists(
            st.fixed_dictionaries(
                {"cron": st.sampled_from(["0 8 * * MON-FRI", "0 20 * * *"])},
                optional={"min_replicas": st.integers(0, 2), "max_replicas": st.integers(0, 3)},
            ),
            max_size=2,
        ),
        "gpu__max_instance_hours_per_day": st.integers(1, 300),
        "gpu__spare_instance": st.booleans(),
        "gpu__capacity": st.sampled_from(["on_demand", "spot"]),
        "gpu__task_memory_mib": st.integers(4096, 200_000),
        "gpu__shm_mib": st.integers(64, 20_000),
        "gpu__startup_seconds": st.integers(60, 3300),
        "orchestrator__cpu": st.sampled_from([256, 512, 1000, 1024, 4096]),
        "orchestrator__memory_mib": st.sampled_from([512, 1000, 2048, 8192]),
        "orchestrator__min_tasks": st.integers(1, 20),
        "orchestrator__max_tasks": st.integers(1, 200),
        "orchestrator__request_timeout_seconds": st.integers(1, 3600),
        "ingress__idle_timeout_seconds": st.integers(1, 4000),
        "ingress__deregistration_delay_seconds": st.integers(0, 3600),
        "ingress__cloudfront": st.booleans(),
        "ingress__scheme": st.sampled_from(["public", "internal"]),
        "network__cidr": st.sampled_from(["10.0.0.0/16", "10.0.0.0/22", "10.0.0.0/24"]),
        "network__zones": st.integers(2, 6),
        "network__nat": st.sampled_from(["one", "per_zone", "none"]),
    },
).map(lambda settings: deployment(**settings))


def repaired(one: Deployment) -> Deployment:
    """Applies the first fix of each error, as long as there is one."""
    while fixes := [finding.fixes[0] for finding in errors(check(one)) if finding.fixes]:
        one = fixes[0].apply(one)
    return one


@given(one=DEPLOYMENTS)
def test_valid_deployments_satisfy_the_arithmetic(one: Deployment) -> None:
    """Checks the facts independently of the rules, after every offered fix."""
    one = repaired(one)
    assume(not errors(check(one)))
    gpu, model, orchestrator, ingress = one.gpu, one.model, one.orchestrator, one.ingress
    plan = Plan(one, CATALOG)
    assert len(plan.instances) == len(gpu.instance_types)
    for instance in plan.instances:
        tasks = tasks_per_instance(instance, gpu.gpus_per_task)
        assert tasks * gpu.gpus_per_task <= instance.gpus
        assert tasks * (plan.share.memory_mib + plan.share.shm_mib) <= registered_memory_mib(instance)
        assert instance.gpu.bfloat16 or model.dtype != "bfloat16"
        if (
            plan.model
            and plan.model.attention == "full"
            and model.quantization is None
            and model.dtype != "float32"
        ):
            assert plan.model.weights_gib is not None
            assert plan.model.kv_bytes_per_token is not None
            request = (
                model.max_model_len
                * plan.model.kv_bytes_per_token
                / (2 if model.kv_cache_dtype == "fp8" else 1)
            )
            there = visible_gib(instance) * model.gpu_memory_utilization * gpu.gpus_per_task
            assert plan.model.weights_gib + request / 2**30 < there
    if plan.model is not None:
        assert model.max_model_len <= (plan.model.max_positions or model.max_model_len)
        assert not plan.model.gated or model.hf_token_secret_arn
        assert (plan.model.attention_heads or 0) % gpu.gpus_per_task == 0
        assert gpu.startup_seconds >= (plan.weights_gb or 0) * 1000 / 100
    assert orchestrator.memory_mib in FARGATE_MEMORY_MIB[orchestrator.cpu]
    assert orchestrator.min_tasks <= orchestrator.max_tasks
    assert orchestrator.request_timeout_seconds < ingress.deregistration_delay_seconds
    assert orchestrator.request_timeout_seconds < ingress.idle_timeout_seconds
    assert one.network.nat != "none"
    assert not (ingress.cloudfront and ingress.scheme == "internal")


@given(one=DEPLOYMENTS)
def test_every_offered_fix_works_and_breaks_nothing_else(one: Deployment) -> None:
    for finding in check(one):
        for fix in finding.fixes:
            assert fixed(one, finding, check(fix.apply(one)))


def test_fix_must_satisfy_the_schema() -> None:
    with pytest.raises(ValidationError):
        found(deployment(gpu__root_volume_gib=30), "root-volume").fixes[0].apply(Deployment()).with_setting(
            "gpu.root_volume_gib", 1
        )


@given(one=DEPLOYMENTS)
def test_no_fix_contradicts_the_first_fix_of_an_earlier_finding(one: Deployment) -> None:
    offered: list[Any] = []
    for finding in check(one):
        for fix in finding.fixes:
            for setting, value in fix.changes.items():
                earlier = [before[setting] for before in offered if setting in before]
                assert not earlier or value in earlier
        offered += [fix.changes for fix in finding.fixes]


@pytest.mark.parametrize(
    ("line", "rejected"),
    [
        ("RUN uv pip install --system 'vllm[audio]==0.32.0'", False),
        ("# RUN uv pip install --system 'vllm[audio]==0.32.0'", True),
    ],
)
def test_speech_to_text_needs_an_image_with_libraries_for_audio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, *, rejected: bool
) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"FROM vllm/vllm-openai:v0.32.0\n{line}\n")
    monkeypatch.setattr(model_kinds, "ENGINE_DOCKERFILE", dockerfile)
    (broken,) = BROKEN["audio-libraries"]
    assert ("audio-libraries" in {finding.rule for finding in check(broken)}) is rejected
