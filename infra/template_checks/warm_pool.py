"""Rules on warm pools: stopped instances of an Auto Scaling group that ECS uses."""

from __future__ import annotations

from infra.deployment.checks.rule import Found, rule

from .gpu_instances import engine_services, groups, launch_templates
from .template import Assembly, Resource
from .user_data import agent_settings, user_data

_EACH_BOOT = "#cloud-boothook"


@rule("T-warm-pool")
def warm_pool(assembly: Assembly) -> Found[Resource]:
    """Instances of a warm pool are stopped, bought on demand, and never come back to it."""
    for pool in assembly.of_kind("AWS::AutoScaling::WarmPool"):
        if pool.get("PoolState", "Stopped") != "Stopped":
            yield (pool, f"PoolState: {pool.get('PoolState')} costs as much as running; set Stopped")
        if pool.get("InstanceReusePolicy.ReuseOnScaleIn"):
            yield (pool, "ECS does not support ReuseOnScaleIn; set it to false")
        if "MaxGroupPreparedCapacity" not in pool.properties:
            yield (pool, "it grows to the maximum of the group; set MaxGroupPreparedCapacity")
        group = assembly.follow(pool, "AutoScalingGroupName")
        spread = group.get("MixedInstancesPolicy.InstancesDistribution", {}) if group else {}
        if float(spread.get("OnDemandPercentageAboveBaseCapacity", 100)) < 100:
            yield (
                pool,
                "its group launches spot instances, which cannot be stopped; gpu.capacity: on_demand",
            )


@rule("T-warm-user-data")
def warm_user_data(assembly: Assembly) -> Found[Resource]:
    """Agents of a warm pool wait until they are used, and a stop neither interrupts nor wipes anything."""
    pools = assembly.of_kind("AWS::AutoScaling::WarmPool")
    warm = {assembly.follow(pool, "AutoScalingGroupName") for pool in pools}
    for service, _ in engine_services(assembly):
        is_warm = bool(warm.intersection(groups(assembly, service)))
        for template in launch_templates(assembly, service):
            script = user_data(assembly, template)
            checks = agent_settings(script).get("ECS_WARM_POOLS_CHECK") == "true"
            if is_warm and not checks:
                yield (
                    template,
                    "UserData must set ECS_WARM_POOLS_CHECK=true, or instances join and are then stopped",
                )
            if is_warm and not script.startswith(_EACH_BOOT):
                yield (
                    template,
                    "UserData runs at the first boot only, and Auto Scaling stops warm instances without "
                    f"waiting for it; its first line must be {_EACH_BOOT}",
                )
            if is_warm and ("data-root" in script or "mkfs" in script):
                yield (
                    template,
                    "UserData uses the instance store, which is empty when a warm instance is started; "
                    "keep Docker's data and the cache on the root volume",
                )
            if checks and not is_warm:
                yield (template, "UserData sets ECS_WARM_POOLS_CHECK=true, but its group has no warm pool")


RULES = (warm_pool, warm_user_data)
