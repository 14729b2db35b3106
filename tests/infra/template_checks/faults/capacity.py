"""Faults of how many GPU instances there are, and how a change replaces them."""

from __future__ import annotations

from tests.infra.template_checks.mutations import (
    ASG,
    DEPLOYMENT,
    PROVIDER,
    SERVICE,
    Mutation,
    drop,
    put,
    update_policy,
)

_SCALING = ("AutoScalingGroupProvider", "ManagedScaling")
_BOUGHT = ("MixedInstancesPolicy", "InstancesDistribution")

FAULTS = (
    Mutation("an instance before its capacity provider", "T-scale-from-zero", put(ASG, ("MinSize",), "1")),
    Mutation("a desired capacity", "T-scale-from-zero", put(ASG, ("DesiredCapacity",), "1")),
    Mutation("no managed scaling", "T-scale-from-zero", put(PROVIDER, (*_SCALING, "Status"), "DISABLED")),
    Mutation(
        "spare instance scaled in",
        "T-spare-instance",
        put(PROVIDER, (*_SCALING, "TargetCapacity"), 100),
        "spare_gpu",
    ),
    Mutation(
        "twice the instances paid for", "T-spare-instance", put(PROVIDER, (*_SCALING, "TargetCapacity"), 50)
    ),
    Mutation("update keeps every instance", "T-update-policy", update_policy("MinInstancesInService", 1)),
    Mutation("update replaces more than there are", "T-update-policy", update_policy("MaxBatchSize", 2)),
    Mutation("changed instances are not replaced", "T-update-policy", update_policy(None, None)),
    Mutation(
        "scaling acts during an update",
        "T-update-policy",
        update_policy("SuspendProcesses", ["HealthCheck", "ScheduledActions"]),
    ),
    Mutation(
        "zones rebalanced with 100 percent",
        "T-zone-rebalancing",
        put(SERVICE, ("AvailabilityZoneRebalancing",), "ENABLED", "Engine"),
    ),
    Mutation(
        "rebalancing left to ECS",
        "T-zone-rebalancing",
        drop(SERVICE, ("AvailabilityZoneRebalancing",), "Engine"),
    ),
    Mutation(
        "orchestrator of 100 percent",
        "T-zone-rebalancing",
        put(SERVICE, (DEPLOYMENT, "MaximumPercent"), 100, "Orchestrator"),
    ),
    Mutation(
        "spot, but all on demand", "T-spot-base", put(ASG, (*_BOUGHT, "OnDemandBaseCapacity"), 2), "spot"
    ),
    Mutation(
        "half on demand", "T-spot-base", put(ASG, (*_BOUGHT, "OnDemandPercentageAboveBaseCapacity"), 50)
    ),
)
