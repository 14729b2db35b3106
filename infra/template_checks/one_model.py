"""The templates as one of several models sees them, for rules that expect the engines of one model."""

from __future__ import annotations

from collections.abc import Iterator

from infra.deployment.environment import engine_name
from infra.deployment.metrics import load_metrics

from .gpu_instances import engine_services, groups, launch_templates
from .template import Assembly, Resource

_ALARM = "AWS::CloudWatch::Alarm"
_OF_GROUPS = ("AWS::ECS::CapacityProvider", "AWS::AutoScaling::WarmPool", "Custom::Unprotected")
_OF_SERVICES = ("AWS::ApplicationAutoScaling::ScalableTarget", "AWS::ApplicationAutoScaling::ScalingPolicy")
_MIRROR = "Custom::ModelMirror"


def each_model(assembly: Assembly) -> Iterator[Assembly]:
    """Yields the templates once per model, without what belongs to the engines of the others."""
    plans = assembly.plan.entries
    if len(plans) == 1:
        yield assembly
        return
    owned = {name: _owned(assembly, service, task) for name, service, task in named_engines(assembly)}
    alarms = assembly.of_kind(_ALARM)
    for plan in plans:
        others = [one for one in plans if one is not plan]
        hidden = set().union(*(owned.get(engine_name(one), set()) for one in others))
        models = {one.deployment.served_model for one in others}
        hidden |= {one for one in alarms if _reads(assembly, one, hidden, models)}
        yield assembly.without(hidden - owned.get(engine_name(plan), set()), plan)


def named_engines(assembly: Assembly) -> Iterator[tuple[str, Resource, Resource]]:
    """Yields the engines' services and tasks, with the names under which they are found."""
    for service, task in engine_services(assembly):
        for registry in service.get("ServiceRegistries", []):
            entry = assembly.target(service.template, registry["RegistryArn"])
            if entry is not None:
                yield str(entry.get("Name")), service, task


def _owned(assembly: Assembly, service: Resource, task: Resource) -> set[Resource]:
    """What exists for one model only."""
    own = {service, task, *groups(assembly, service), *launch_templates(assembly, service)}
    for kinds in (_OF_GROUPS, _OF_SERVICES[:1], _OF_SERVICES[1:]):
        for kind in kinds:
            own |= {
                one for one in assembly.of_kind(kind) if assembly.targets(one.template, one.properties) & own
            }
    own |= {one for one in assembly.of_kind(_MIRROR) if one.logical_id in task.depends_on}
    return own


def _reads(assembly: Assembly, alarm: Resource, hidden: set[Resource], models: set[str]) -> bool:
    """Whether an alarm is about the engines of other models."""
    dimension = load_metrics().dimensions[1]
    dimensions = [*alarm.get("Dimensions", [])]
    for one in alarm.get("Metrics", []):
        dimensions += one.get("MetricStat", {}).get("Metric", {}).get("Dimensions", [])
    named = any(one["Name"] == dimension and one["Value"] in models for one in dimensions)
    return named or bool(assembly.targets(alarm.template, alarm.properties) & hidden)
