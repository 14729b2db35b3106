"""Models come and go, and nothing of the others changes: no resource of theirs is replaced or updated."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest

from infra.deployment.catalog import load_catalog
from infra.deployment.file import Deployment
from infra.deployment.plan import Plan
from infra.serving.traces import CONTAINER
from infra.stacks import build_stacks
from infra.template_checks.plugin import find
from infra.template_checks.template import Assembly, Resource
from infra.template_checks.user_data import user_data
from tests.infra.synthesis import synthesize

SMALL = {"id": "Qwen/Qwen2.5-0.5B-Instruct", "min_replicas": 0, "max_replicas": 2}
EMBED = {"id": "Qwen/Qwen3-Embedding-0.6B", "kind": "embedding", "max_model_len": 8192}
SHARED = ("OrchestratorTask", "MonitoringDashboard", "OrchestratorService", "OrchestratorScaling")
"""What knows every model: the task definition of the orchestrator, what refers to it, and the dashboard."""

LAUNCH = "AWS::EC2::LaunchTemplate"

Resources = dict[str, Any]


@functools.cache
def resources(*names: str) -> Resources:
    """The resources of a deployment with these models, in this order."""
    entries: dict[str, Any] = {"main": {}, "small": SMALL, "embed": EMBED}
    plan = Plan(
        Deployment.model_validate({"models": {name: entries[name] for name in names}}), load_catalog()
    )
    found: Resources = templates(plan)["serving"]["Resources"]
    return found


def templates(plan: Plan) -> dict[str, Any]:
    """The templates of a deployment, by the last part of the stack's name."""
    with tempfile.TemporaryDirectory() as directory:
        app = cdk.App(outdir=directory)
        build_stacks(app, plan)
        app.synth()
        return {
            name: json.loads(Path(directory, f"tandem-{name}.template.json").read_text())
            for name in ("foundation", "serving")
        }


def changed(before: Resources, after: Resources) -> set[str]:
    """The resources that are in both and differ, except those that know every model."""
    both = before.keys() & after.keys()
    differing = {name for name in both if before[name] != after[name]}
    return {name for name in differing if not name.startswith(SHARED)}


def test_removed_model_takes_its_own_resources_and_no_others() -> None:
    before, after = resources("main", "small", "embed"), resources("main", "embed")
    assert changed(before, after) == set()
    assert after.keys() <= before.keys()
    gone = before.keys() - after.keys()
    kinds = {"ECS::Service", "ECS::Cluster", "AutoScaling::AutoScalingGroup", "CloudWatch::Alarm"}
    assert {before[name]["Type"] for name in gone} >= {f"AWS::{kind}" for kind in kinds}
    assert all("Small" in name for name in gone)


def test_first_model_can_be_removed_and_models_can_change_places() -> None:
    assert changed(resources("main", "small", "embed"), resources("small", "embed")) == set()
    assert changed(resources("main", "embed"), resources("embed", "main")) == set()


def test_second_model_leaves_a_deployment_with_one_as_it_is() -> None:
    one = synthesize("default").serving["Resources"]
    assert changed(one, resources("main", "embed")) == set()
    assert one.keys() <= resources("main", "embed").keys()


@pytest.mark.parametrize("name", ["small", "embed"])
def test_every_model_waits_for_its_own_provider_only(name: str) -> None:
    every = resources("main", "small", "embed")
    label = name.capitalize()
    services = [one for one in every.values() if one["Type"] == "AWS::ECS::Service"]
    [service] = [one for one in services if f"Engine{label}Task" in str(one["Properties"]["TaskDefinition"])]
    waits = [every[one]["Type"] + one for one in service["DependsOn"]]
    providers = [one for one in waits if "ClusterCapacityProviderAssociations" in one]
    assert len(providers) == 1
    assert f"Cluster{label}" in providers[0]


def test_what_a_model_has_of_its_own_is_not_given_to_another() -> None:
    """One keeps stopped instances and sleeps, one scales, and traces are those of the orchestrator."""
    warm = {**SMALL, "warm_instances": 1, "root_volume_gib": 160}
    models = {"main": {}, "small": warm, "embed": {**EMBED, "max_replicas": 2}}
    settings = {"models": models, "orchestrator": {"traces": {"sidecar": True}}}
    plan = Plan(Deployment.model_validate(settings), load_catalog())
    synthesis = Assembly(templates(plan), plan)
    assert find(synthesis) == []
    (pool,) = synthesis.of_kind("AWS::AutoScaling::WarmPool")
    assert "GpuCapacitySmall" in pool.logical_id
    scripts = {template.logical_id: user_data(synthesis, template) for template in synthesis.of_kind(LAUNCH)}
    assert {name: "ECS_WARM_POOLS_CHECK" in script for name, script in scripts.items()} == {
        name: "Small" in name for name in scripts
    }
    woken = [one for one in synthesis.of_kind("AWS::CloudWatch::Alarm") if "WakeAlarm" in one.logical_id]
    assert [models_of(one) for one in woken] == [{SMALL["id"]}]
    collectors = [one for one in synthesis.of_kind("AWS::ECS::TaskDefinition") if collector(one)]
    assert [one.logical_id.startswith("OrchestratorTask") for one in collectors] == [True]


def models_of(alarm: Resource) -> set[str]:
    """The models whose metrics an alarm reads."""
    stats = [one["MetricStat"]["Metric"] for one in alarm.get("Metrics", []) if "MetricStat" in one]
    return {one["Value"] for stat in stats for one in stat["Dimensions"] if one["Name"] == "Model"}


def collector(task: Resource) -> bool:
    return any(one["Name"] == CONTAINER for one in task.get("ContainerDefinitions", []))
