"""Faults of several models behind one orchestrator, and of their adapters."""

from __future__ import annotations

import json

from infra.deployment.environment import engine_models
from tests.infra.synthesis import plan_of
from tests.infra.template_checks.mutations import (
    ALARM,
    ASG,
    SERVICE,
    Change,
    Mutation,
    Templates,
    drop,
    put,
    resources,
    variable,
    with_action,
    without_dependency,
)

_VARIANT = "two_models"


def _models(**changes: str) -> Change:
    """Changes the second model that the orchestrator knows."""

    def change(templates: Templates) -> None:
        models = json.loads(engine_models(plan_of(_VARIANT)))
        models[1] |= changes
        variable("OrchestratorTask", "MODELS", json.dumps(models))(templates)

    return change


def _one_cluster(templates: Templates) -> None:
    service = resources(templates, SERVICE, "EngineService")[0]
    put(SERVICE, ("Cluster",), service["Properties"]["Cluster"], "EngineSmallService")(templates)


def _found(name: str, rule: str, change: Change) -> Mutation:
    return Mutation(name, rule, change, _VARIANT)


FAULTS = (
    _found(
        "orchestrator knows one of three models", "T-models", variable("OrchestratorTask", "MODELS", None)
    ),
    _found("model under another name than its engines", "T-models", _models(model="small")),
    _found(
        "model at the engines of another", "T-engine-url", _models(url="http://vllm.tandem.internal:8000")
    ),
    _found(
        "two models registered under one name",
        "T-models",
        put("AWS::ServiceDiscovery::Service", ("Name",), "vllm", "EngineSmall"),
    ),
    _found("models share a cluster, and none can be removed", "T-cluster-per-model", _one_cluster),
    _found("adapters do not reach the engine", "T-adapters", variable("EngineTask", "ADAPTERS", None)),
    _found(
        "adapter from somebody else's bucket",
        "T-adapters",
        variable("EngineTask", "ADAPTERS", '[{"name": "support-tone", "source": "s3://other/tone"}]'),
    ),
    _found(
        "engine does not look for later adapters", "T-adapters", variable("EngineTask", "ADAPTERS_FROM", None)
    ),
    _found(
        "later adapters from another prefix",
        "T-adapters",
        variable("EngineTask", "ADAPTERS_FROM", "s3://acme-adapters/others"),
    ),
    _found("embedding model served as chat", "T-adapters", variable("EngineEmbedTask", "KIND", None)),
    _found(
        "engine may write its adapters",
        "T-role-may-not",
        with_action("EngineTaskTaskRole", "s3:PutObject"),
    ),
    _found("second model is never woken", "T-wake", drop(ALARM, (), "EngineScalingSmallWake")),
    _found(
        "third model has no room for its engine",
        "T-rollout-ends",
        put(ASG, ("MaxSize",), "0", "GpuCapacityEmbed"),
    ),
    _found(
        "second model starts before its mirror is complete",
        "T-model-mirror",
        without_dependency("EngineSmallTask", "ImageBuilderModelSmall"),
    ),
    _found(
        "nothing stops the second model's engines",
        "T-instance-hours",
        drop("AWS::Lambda::Function", (), "MonitoringStopEnginesSmall"),
    ),
    _found(
        "no alarm for the third model's engines",
        "T-engine-alarms",
        drop(ALARM, (), "MonitoringDemandWithoutEngineEmbed"),
    ),
)
