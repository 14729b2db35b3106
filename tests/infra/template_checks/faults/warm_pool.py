"""Faults of stopped instances that wait to be started."""

from __future__ import annotations

from tests.infra.template_checks.mutations import (
    ASG,
    DATA,
    LAUNCH,
    WARM_POOL,
    Mutation,
    drop,
    in_user_data,
    put,
)

_CHECK = "ECS_WARM_POOLS_CHECK=true\n"
_DISTRIBUTION = ("MixedInstancesPolicy", "InstancesDistribution", "OnDemandPercentageAboveBaseCapacity")

FAULTS = (
    Mutation("warm instances run", "T-warm-pool", put(WARM_POOL, ("PoolState",), "Running"), "warm"),
    Mutation(
        "instances return to the warm pool",
        "T-warm-pool",
        put(WARM_POOL, ("InstanceReusePolicy", "ReuseOnScaleIn"), True),
        "warm",
    ),
    Mutation(
        "a warm pool as large as its group",
        "T-warm-pool",
        drop(WARM_POOL, ("MaxGroupPreparedCapacity",)),
        "warm",
    ),
    Mutation("a warm pool of spot instances", "T-warm-pool", put(ASG, _DISTRIBUTION, 0), "warm"),
    Mutation("warm instances join the cluster", "T-warm-user-data", in_user_data(_CHECK, ""), "warm"),
    Mutation(
        "a stop interrupts user data of the first boot",
        "T-warm-user-data",
        in_user_data("#cloud-boothook\n", ""),
        "warm",
    ),
    Mutation(
        "Docker's data on a disk that a stop wipes",
        "T-warm-user-data",
        in_user_data(
            "install --directory",
            'echo \'{"data-root": "/mnt/d"}\' >/etc/docker/daemon.json\ninstall --directory',
        ),
        "warm",
    ),
    Mutation(
        "the agent waits for a pool that is not there",
        "T-warm-user-data",
        in_user_data("ECS_ENABLE_GPU_SUPPORT=true\n", f"ECS_ENABLE_GPU_SUPPORT=true\n{_CHECK}"),
    ),
    Mutation(
        "warm images at 125 MB/s",
        "T-image-disk",
        drop(LAUNCH, (DATA, "BlockDeviceMappings", 0, "Ebs", "Throughput")),
        "warm",
    ),
)
