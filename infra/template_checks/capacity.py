"""Rules on how many GPU instances there are, and how a change replaces them."""

from __future__ import annotations

from infra.deployment.checks.rule import Found, rule

from .gpu_instances import engine_services
from .template import Assembly, Resource

_MUST_PAUSE = {"AlarmNotification", "AZRebalance", "ReplaceUnhealthy"}


@rule("T-scale-from-zero")
def scale_from_zero(assembly: Assembly) -> Found[Resource]:
    """An instance that starts before its capacity provider exists may never be usable, and is paid for."""
    for group in assembly.of_kind("AWS::AutoScaling::AutoScalingGroup"):
        if group.number("MinSize", 0) != 0 or "DesiredCapacity" in group.properties:
            yield (
                group,
                f"MinSize is {group.get('MinSize')} and DesiredCapacity is "
                f"{group.get('DesiredCapacity', 'unset')}; MinSize must be 0 and DesiredCapacity unset, so "
                "that managed scaling starts the instances",
            )
    for service, _ in engine_services(assembly):
        for provider in _providers(assembly, service):
            if provider.get("AutoScalingGroupProvider.ManagedScaling.Status") != "ENABLED":
                yield (provider, "ManagedScaling must be ENABLED: else nothing starts an instance")


@rule("T-spare-instance")
def spare_instance(assembly: Assembly) -> Found[Resource]:
    """Managed scaling ends the spare instance, or a busy one in its place, unless its target leaves room."""
    wanted = assembly.plan.target_capacity_percent
    for service, _ in engine_services(assembly):
        for provider in _providers(assembly, service):
            target = provider.number("AutoScalingGroupProvider.ManagedScaling.TargetCapacity", 100)
            if target != wanted:
                yield (
                    provider,
                    f"TargetCapacity is {target:g}; {wanted} keeps {assembly.plan.instance_count} instances",
                )


@rule("T-update-policy")
def update_policy(assembly: Assembly) -> Found[Resource]:
    """CloudFormation rejects, or never ends, an update that keeps as many instances as there may be."""
    for group in assembly.of_kind("AWS::AutoScaling::AutoScalingGroup"):
        rolling = group.update_policy.get("AutoScalingRollingUpdate")
        most = int(group.number("MaxSize", 0))
        if rolling is None:
            yield (group, "without AutoScalingRollingUpdate, a changed launch template replaces no instance")
            continue
        kept, batch = int(rolling.get("MinInstancesInService", 0)), int(rolling.get("MaxBatchSize", 1))
        if kept + batch > most:
            yield (
                group,
                f"an update keeps {kept} instances and replaces {batch} at once, and there are {most} at "
                f"most; MaxBatchSize: 1 and MinInstancesInService: {max(most - 1, 0)}",
            )
        missing = _MUST_PAUSE - {*rolling.get("SuspendProcesses", [])}
        if missing:
            yield (
                group,
                f"SuspendProcesses must name {', '.join(sorted(missing))}: otherwise Auto Scaling changes "
                "the group while CloudFormation replaces its instances",
            )


@rule("T-zone-rebalancing")
def zone_rebalancing(assembly: Assembly) -> Found[Resource]:
    """ECS rebalances zones by starting a task before it stops one, which a maximum of 100 percent forbids."""
    for service in assembly.of_kind("AWS::ECS::Service"):
        most = service.number("DeploymentConfiguration.MaximumPercent", 200)
        # ECS enables it for new services that do not say otherwise.
        if most <= 100 and service.get("AvailabilityZoneRebalancing", "ENABLED") != "DISABLED":
            yield (service, f"MaximumPercent is {most:g}: AvailabilityZoneRebalancing must be DISABLED")
    for service, _ in engine_services(assembly):
        if service.get("AvailabilityZoneRebalancing", "ENABLED") != "DISABLED":
            yield (
                service,
                "AvailabilityZoneRebalancing must be DISABLED: it starts tasks without a free GPU",
            )


@rule("T-spot-base")
def spot_base(assembly: Assembly) -> Found[Resource]:
    """An on-demand base as large as the group buys no spot instance at all."""
    plan = assembly.plan
    for group in assembly.of_kind("AWS::AutoScaling::AutoScalingGroup"):
        bought = group.get("MixedInstancesPolicy.InstancesDistribution", {})
        above = int(bought.get("OnDemandPercentageAboveBaseCapacity", 100))
        base = int(bought.get("OnDemandBaseCapacity", 0))
        on_demand = plan.instance_count if above == 100 else min(base, plan.instance_count)
        if above not in (0, 100) or on_demand != plan.on_demand_count:
            yield (
                group,
                f"OnDemandBaseCapacity {base} and {above} percent above it buy {on_demand} of "
                f"{plan.instance_count} instances on demand; gpu.capacity and gpu.on_demand_base say "
                f"{plan.on_demand_count}",
            )


def _providers(assembly: Assembly, service: Resource) -> list[Resource]:
    names = [entry["CapacityProvider"] for entry in service.get("CapacityProviderStrategy", [])]
    found = [assembly.target(service.template, name) for name in names]
    return [provider for provider in found if provider is not None]


RULES = (scale_from_zero, spare_instance, update_policy, zone_rebalancing, spot_base)
