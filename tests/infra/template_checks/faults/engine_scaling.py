"""Faults of how the number of engines changes."""

from __future__ import annotations

from typing import Any

from tests.infra.template_checks.mutations import (
    ALARM,
    ASG,
    POLICY,
    PROVIDER,
    SCALABLE,
    SERVICE,
    Change,
    Mutation,
    Templates,
    drop,
    put,
    resources,
    without_dependency,
)

_STEPS = "StepScalingPolicyConfiguration"
_PROTECTION = ("AutoScalingGroupProvider", "ManagedTerminationProtection")


def _reading(part: str, name: str, **changed: Any) -> Change:
    """Changes how an alarm reads one of its metrics."""

    def change(templates: Templates) -> None:
        [alarm] = resources(templates, ALARM, part)
        [read] = [
            one["MetricStat"]
            for one in alarm["Properties"]["Metrics"]
            if one.get("MetricStat", {}).get("Metric", {}).get("MetricName") == name
        ]
        for key, value in changed.items():
            place = read["Metric"] if key == "MetricName" else read
            assert place[key] != value
            place[key] = value

    return change


def _slower(part: str) -> Change:
    """Changes the period of an alarm's metrics to a minute."""

    def change(templates: Templates) -> None:
        [alarm] = resources(templates, ALARM, part)
        for one in alarm["Properties"]["Metrics"]:
            if "MetricStat" in one:
                one["MetricStat"]["Period"] = 60

    return change


def _filled(templates: Templates) -> None:
    [alarm] = resources(templates, ALARM, "ScalingIdleAlarm")
    [math] = [one for one in alarm["Properties"]["Metrics"] if "Expression" in one]
    math["Expression"] = "FILL(engine, 0) + FILL(held, 0)"


def _scales_the_orchestrator(templates: Templates) -> None:
    [policy] = resources(templates, POLICY, "ScalingUpPolicy")
    [target] = [
        name
        for name, body in templates["serving"]["Resources"].items()
        if body["Type"] == SCALABLE and "Orchestrator" in name
    ]
    policy["Properties"]["ScalingTargetId"] = {"Ref": target}


def _swapped_actions(templates: Templates) -> None:
    [up], [down] = (resources(templates, ALARM, f"Scaling{name}Alarm") for name in ("Up", "Down"))
    up, down = up["Properties"], down["Properties"]
    up["AlarmActions"], down["AlarmActions"] = down["AlarmActions"], up["AlarmActions"]


FAULTS = (
    Mutation(
        "two owners of the count", "T-engine-count", put(SERVICE, ("DesiredCount",), 1, "Engine"), "scaled"
    ),
    Mutation("engines fixed at three", "T-engine-count", put(SERVICE, ("DesiredCount",), 3, "Engine")),
    Mutation(
        "at most two of three engines",
        "T-engine-count",
        put(SCALABLE, ("MaxCapacity",), 2, "EngineScaling"),
        "scaled",
    ),
    Mutation(
        "one engine always on, against the file",
        "T-engine-count",
        put(SCALABLE, ("MinCapacity",), 1, "EngineScaling"),
        "scaled",
    ),
    Mutation("nothing scales the engines", "T-engine-count", drop(SCALABLE, (), "EngineScaling"), "scaled"),
    Mutation(
        "a dead publisher stops the engines",
        "T-scaling-data",
        put(ALARM, ("TreatMissingData",), "breaching", "ScalingIdleAlarm"),
        "scaled",
    ),
    Mutation(
        "an alarm keeps its state without data",
        "T-scaling-data",
        put(ALARM, ("TreatMissingData",), "missing", "ScalingDownAlarm"),
        "scaled",
    ),
    Mutation("missing data counts as no demand", "T-scaling-data", _filled, "scaled"),
    Mutation(
        "demand for engines scales the orchestrator", "T-scaling-target", _scales_the_orchestrator, "scaled"
    ),
    Mutation("a policy without an alarm", "T-scaling-target", drop(ALARM, (), "ScalingUpAlarm"), "scaled"),
    Mutation(
        "a slow start adds an engine each time its alarm is repeated",
        "T-scaling-steps",
        put(POLICY, (_STEPS, "AdjustmentType"), "ChangeInCapacity", "ScalingWakePolicy"),
        "scaled",
    ),
    Mutation(
        "waking starts every engine at once",
        "T-scaling-steps",
        put(POLICY, (_STEPS, "StepAdjustments", 0, "ScalingAdjustment"), 3, "ScalingWakePolicy"),
        "scaled",
    ),
    Mutation(
        "much demand sets one engine where two run",
        "T-scaling-steps",
        put(POLICY, (_STEPS, "AdjustmentType"), "ExactCapacity", "ScalingUpPolicy"),
        "scaled",
    ),
    Mutation(
        "little demand adds an engine",
        "T-scaling-steps",
        put(POLICY, (_STEPS, "StepAdjustments", 0, "ScalingAdjustment"), 1, "ScalingDownPolicy"),
        "scaled",
    ),
    Mutation("much demand stops an engine", "T-scaling-steps", _swapped_actions, "scaled"),
    Mutation(
        "no demand leaves an engine on",
        "T-scaling-steps",
        put(POLICY, (_STEPS, "StepAdjustments", 0, "ScalingAdjustment"), 1, "ScalingIdlePolicy"),
        "scaled",
    ),
    Mutation(
        "three orchestrators count a request three times",
        "T-scaling-metrics",
        _reading("ScalingUpAlarm", "EngineDemand", Stat="Sum"),
        "scaled",
    ),
    Mutation(
        "only one orchestrator's held requests count",
        "T-scaling-metrics",
        _reading("ScalingWakeAlarm", "HeldDemand", Stat="Maximum"),
        "scaled",
    ),
    Mutation(
        "held requests wake nobody",
        "T-scaling-metrics",
        _reading("ScalingWakeAlarm", "HeldDemand", MetricName="ToolCalls"),
        "scaled",
    ),
    Mutation(
        "nothing wakes the engines",
        "T-wake",
        put(ALARM, ("Threshold",), 5, "ScalingWakeAlarm"),
        "scaled",
    ),
    Mutation(
        "engines run for an idle day",
        "T-wake",
        put(ALARM, ("EvaluationPeriods",), 1440, "ScalingIdleAlarm"),
        "scaled",
    ),
    Mutation(
        "an engine that never answers runs for ever",
        "T-wake",
        drop(ALARM, (), "ScalingUnusedAlarm"),
        "scaled",
    ),
    Mutation(
        "an instance counts as unused while it shuts down",
        "T-wake",
        put(ALARM, ("EvaluationPeriods",), 10, "ScalingUnusedAlarm"),
        "scaled",
    ),
    Mutation(
        "waking looks every minute",
        "T-wake",
        _slower("ScalingWakeAlarm"),
        "scaled",
    ),
    Mutation(
        "a schedule of UTC",
        "T-schedule",
        drop(SCALABLE, ("ScheduledActions", 0, "Timezone"), "EngineScaling"),
        "scaled",
    ),
    Mutation(
        "no schedule", "T-schedule", drop(SCALABLE, ("ScheduledActions",), "EngineScaling"), "nights_off"
    ),
    Mutation(
        "termination protection of one instance",
        "T-protected-instances",
        put(PROVIDER, _PROTECTION, "ENABLED"),
    ),
    Mutation(
        "busy instances scaled in", "T-protected-instances", put(PROVIDER, _PROTECTION, "DISABLED"), "scaled"
    ),
    Mutation(
        "new instances not protected",
        "T-protected-instances",
        put(ASG, ("NewInstancesProtectedFromScaleIn",), False),
        "scaled",
    ),
    Mutation(
        "destroy waits for protected instances",
        "T-protected-instances",
        drop("Custom::Unprotected", ()),
        "scaled",
    ),
    Mutation(
        "protection cleared before the tasks end",
        "T-protected-instances",
        without_dependency("EngineService", "GpuCapacityUnprotected"),
        "scaled",
    ),
)
