"""Rules on how the number of engines changes."""

from __future__ import annotations

from collections.abc import Iterator

from infra.deployment.checks.rule import Found, rule
from infra.deployment.schedule import Limits, limits_of

from .gpu_instances import engine_services, groups
from .template import Assembly, Resource

ALARM = "AWS::CloudWatch::Alarm"
TARGET = "AWS::ApplicationAutoScaling::ScalableTarget"
POLICY = "AWS::ApplicationAutoScaling::ScalingPolicy"
INSTANCES = "GroupInServiceInstances"


def engine_targets(assembly: Assembly) -> list[Resource]:
    """Returns the scalable targets of the engines' services."""
    services = [service for service, _ in engine_services(assembly)]
    return [
        target
        for target in assembly.of_kind(TARGET)
        if any(one in assembly.targets(target.template, target.get("ResourceId")) for one in services)
    ]


def step_policies(assembly: Assembly) -> list[Resource]:
    """Returns the step scaling policies."""
    return [one for one in assembly.of_kind(POLICY) if one.get("PolicyType") == "StepScaling"]


def alarms_of(assembly: Assembly, policy: Resource) -> list[Resource]:
    """Returns the alarms that a policy acts on."""
    return [
        alarm
        for alarm in assembly.of_kind(ALARM)
        if policy in assembly.targets(alarm.template, alarm.get("AlarmActions", []))
    ]


@rule("T-engine-count")
def engine_count(assembly: Assembly) -> Found[Resource]:
    """The number of engines has one owner: the service's count, or scaling between the settings' limits."""
    plan = assembly.plan
    gpu, limits = plan.deployment.gpu, plan.limits
    targets = engine_targets(assembly)
    for service, _ in engine_services(assembly):
        wanted = None if plan.is_scaled else limits.most
        if service.get("DesiredCount") != wanted:
            yield (service, f"DesiredCount must be {wanted or 'unset, because scaling decides'}")
        if len(targets) != int(plan.is_scaled):
            yield (service, f"it has {len(targets)} scalable targets; expected {int(plan.is_scaled)}")
    for target in targets:
        found = Limits(int(target.number("MinCapacity", -1)), int(target.number("MaxCapacity", -1)))
        if found != Limits(gpu.least, gpu.most):
            yield (
                target,
                f"it scales from {found.least} to {found.most} engines; the settings say {gpu.least} to "
                f"{gpu.most}",
            )
        if target.get("ScalableDimension") != "ecs:service:DesiredCount":
            yield (target, "ScalableDimension must be ecs:service:DesiredCount")


@rule("T-scaling-data")
def scaling_data(assembly: Assembly) -> Found[Resource]:
    """Missing data does not raise an alarm that scales engines: a dead publisher stops and starts nothing."""
    for policy in step_policies(assembly):
        for alarm in alarms_of(assembly, policy):
            if alarm.get("TreatMissingData") != "notBreaching":
                yield (alarm, "TreatMissingData must be notBreaching")
            filled = [one["Id"] for one in alarm.get("Metrics", []) if "FILL(" in one.get("Expression", "")]
            if filled:
                yield (alarm, f"{', '.join(filled)} fills in missing data; without data, nothing may change")


@rule("T-scaling-target")
def scaling_target(assembly: Assembly) -> Found[Resource]:
    """A step policy changes the number of engines, and exactly one alarm triggers it."""
    targets = engine_targets(assembly)
    for policy in step_policies(assembly):
        if assembly.follow(policy, "ScalingTargetId") not in targets:
            yield (policy, "it does not change the number of engines")
        if (count := len(alarms_of(assembly, policy))) != 1:
            yield (policy, f"{count} alarms trigger it; expected one")


@rule("T-scaling-steps")
def scaling_steps(assembly: Assembly) -> Found[Resource]:
    """A policy for much demand never stops an engine, and one for little demand never starts one."""
    for policy in step_policies(assembly):
        settings = policy.get("StepScalingPolicyConfiguration", {})
        kind = settings.get("AdjustmentType")
        steps = [int(step["ScalingAdjustment"]) for step in settings.get("StepAdjustments", [])]
        for alarm in alarms_of(assembly, policy):
            starts = str(alarm.get("ComparisonOperator")).startswith("GreaterThan")
            if starts and not _starts_as_needed(kind, steps, alarm):
                wanted = "ExactCapacity [1]" if _wakes(alarm) else "ChangeInCapacity, which adds some"
                yield (
                    policy,
                    f"{alarm.logical_id} reports demand, and {kind} {steps} may start too many engines or "
                    f"stop some; use {wanted}",
                )
            if not starts and not _only_stops(kind, steps):
                yield (
                    policy,
                    f"{alarm.logical_id} reports little demand, and {kind} {steps} may start engines",
                )


def _starts_as_needed(kind: object, steps: list[int], alarm: Resource) -> bool:
    """Waking sets one engine, however often it is repeated; much demand adds engines."""
    if _wakes(alarm):
        return kind == "ExactCapacity" and steps == [1]
    return kind == "ChangeInCapacity" and min(steps, default=0) > 0


def _wakes(alarm: Resource) -> bool:
    """Whether an alarm is raised by any demand that finds no engine."""
    return _is_at_least_one(alarm) and "up" in _ids(alarm)


def _only_stops(kind: object, steps: list[int]) -> bool:
    if kind == "ExactCapacity":
        return steps == [0]
    return kind == "ChangeInCapacity" and max(steps, default=0) < 0


@rule("T-scaling-metrics")
def scaling_metrics(assembly: Assembly) -> Found[Resource]:
    """Scaling reads what every orchestrator sees of all engines as a maximum, and adds up what each holds."""
    statistics = {
        "EngineDemand": "Maximum",
        "EnginesUp": "Maximum",
        "HeldDemand": "Sum",
        INSTANCES: "Maximum",
    }
    for policy in step_policies(assembly):
        for alarm in alarms_of(assembly, policy):
            read = [one["MetricStat"] for one in alarm.get("Metrics", []) if "MetricStat" in one]
            names = {one["Metric"]["MetricName"] for one in read}
            if not {"EngineDemand", "HeldDemand"} <= names:
                yield (alarm, f"it reads {sorted(names)}; demand is EngineDemand and HeldDemand together")
            for one in read:
                name = one["Metric"]["MetricName"]
                if statistics.get(name) != one["Stat"]:
                    yield (
                        alarm,
                        f"it reads {one['Stat']} of {name}, not {statistics.get(name, 'a known one')}",
                    )


@rule("T-wake")
def wake(assembly: Assembly) -> Found[Resource]:
    """Engines that may stop are started again by demand, and stop only without any."""
    plan = assembly.plan
    if not plan.sleeps:
        return
    policies = step_policies(assembly)
    found = {alarm: policy for policy in policies for alarm in alarms_of(assembly, policy)}
    for target in engine_targets(assembly):
        wakes = [one for one in found if _wakes(one)]
        stops = [one for one, policy in found.items() if _stops_all(policy)]
        unused = [one for one in stops if INSTANCES in _reads(one)]
        idles = [one for one in stops if one not in unused]
        if not any(int(one.get("Period", _period(one))) <= 10 for one in wakes):
            yield (target, "no alarm with a period of 10 s adds an engine when there is demand and none runs")
        seconds = plan.deployment.gpu.idle_minutes * 60
        if not any(_seconds(one) == seconds for one in idles):
            yield (target, f"no alarm stops the engines after {seconds} s without demand")
        if not any(_seconds(one) == plan.unused_minutes * 60 for one in unused):
            yield (
                target,
                f"no alarm stops an engine that nobody waits for, and that does not answer for "
                f"{plan.unused_minutes} minutes on a running instance",
            )


def _is_at_least_one(alarm: Resource) -> bool:
    operator = str(alarm.get("ComparisonOperator"))
    return operator == "GreaterThanOrEqualToThreshold" and alarm.number("Threshold", 0) == 1


def _stops_all(policy: Resource) -> bool:
    settings = policy.get("StepScalingPolicyConfiguration", {})
    steps = [int(step["ScalingAdjustment"]) for step in settings.get("StepAdjustments", [])]
    return bool(settings.get("AdjustmentType") == "ExactCapacity" and steps == [0])


def _seconds(alarm: Resource) -> int:
    """Returns for how long an alarm's condition must hold."""
    return int(alarm.number("EvaluationPeriods", 0)) * _period(alarm)


def _reads(alarm: Resource) -> set[str]:
    """Returns the names of the metrics that an alarm reads."""
    reads = [one["MetricStat"]["Metric"] for one in alarm.get("Metrics", []) if "MetricStat" in one]
    return {str(one["MetricName"]) for one in reads}


def _ids(alarm: Resource) -> set[str]:
    return {one["Id"] for one in alarm.get("Metrics", [])}


def _period(alarm: Resource) -> int:
    periods = [one["MetricStat"]["Period"] for one in alarm.get("Metrics", []) if "MetricStat" in one]
    return int(max(periods, default=0))


@rule("T-schedule")
def schedule(assembly: Assembly) -> Found[Resource]:
    """The schedule is that of the deployment file, with its time zones."""
    gpu = assembly.plan.deployment.gpu
    wanted = sorted(
        (limits_of(one, gpu).least, limits_of(one, gpu).most, one.time_zone) for one in gpu.schedule
    )
    for target in engine_targets(assembly):
        found = sorted(_scheduled(target))
        if found != wanted:
            yield (target, f"its schedule is {found}; gpu.schedule says {wanted}")


def _scheduled(target: Resource) -> Iterator[tuple[int, int, str]]:
    for one in target.get("ScheduledActions", []):
        limits = one["ScalableTargetAction"]
        yield int(limits["MinCapacity"]), int(limits["MaxCapacity"]), str(one.get("Timezone", "UTC"))


@rule("T-protected-instances")
def protected_instances(assembly: Assembly) -> Found[Resource]:
    """Instances are protected where scale-in could end a busy one, and what deletes the stack clears that."""
    wanted = assembly.plan.protects_instances
    for provider in assembly.of_kind("AWS::ECS::CapacityProvider"):
        status = provider.get("AutoScalingGroupProvider.ManagedTerminationProtection")
        if (status == "ENABLED") != wanted:
            yield (
                provider,
                "ManagedTerminationProtection must be "
                + ("ENABLED, because scale-in may end a busy instance" if wanted else "DISABLED"),
            )
    for group in assembly.of_kind("AWS::AutoScaling::AutoScalingGroup"):
        protected = group.get("NewInstancesProtectedFromScaleIn") in (True, "true")
        if protected != wanted:
            yield (group, f"NewInstancesProtectedFromScaleIn must be {'on' if wanted else 'off'}")
    if wanted:
        yield from _cleared(assembly)


def _cleared(assembly: Assembly) -> Found[Resource]:
    for service, _ in engine_services(assembly):
        for group in groups(assembly, service):
            clears = [
                one
                for one in assembly.of_kind("Custom::Unprotected")
                if assembly.follow(one, "AutoScalingGroupName") == group
            ]
            if not clears:
                yield (group, "nothing clears the protection of its instances, so `cdk destroy` hangs")
            elif not any(one.logical_id in service.depends_on for one in clears):
                yield (
                    service,
                    f"it must depend on {clears[0].logical_id}, which clears the protection of instances "
                    "after the service is deleted",
                )


RULES = (
    engine_count,
    scaling_data,
    scaling_target,
    scaling_steps,
    scaling_metrics,
    wake,
    schedule,
    protected_instances,
)
