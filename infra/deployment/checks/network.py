"""Rules on the network and the region."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterator

from infra.deployment.plan import Plan

from .rule import Changes, Found, Severity, rule

_RESERVED_ADDRESSES = 5

_LONGEST_PREFIX = 28

_LOAD_BALANCER_ADDRESSES = 8


@rule("nat", Severity.ERROR, lambda _: [{"network.nat": "one"}, {"network.nat": "per_zone"}])
def nat(plan: Plan) -> Found[str]:
    """Model weights and weather data are fetched through a NAT gateway."""
    network = plan.deployment.network
    if network.nat != "none" or network.existing_vpc:
        return
    yield ("network.nat", "without a NAT gateway the engine cannot download the model's weights")


@rule("existing-vpc", Severity.ERROR)
def existing_vpc(plan: Plan) -> Found[str]:
    """The subnets of an existing VPC are known, since synthesis does not ask AWS."""
    vpc = plan.deployment.network.existing_vpc
    if vpc is None or vpc.known:
        return
    yield (
        "network.existing_vpc",
        f"the network and the subnets of {vpc.vpc_id} are not in the file yet; make doctor looks them up and "
        "writes them into it",
    )


@rule("zones", Severity.ERROR, lambda _: [{"network.availability_zones": ()}])
def zones(plan: Plan) -> Found[str]:
    """A load balancer needs two zones."""
    named = plan.deployment.network.availability_zones
    if not named or len(set(named)) > 1:
        return
    yield ("network.availability_zones", f"a load balancer needs two zones, but only {named[0]} is listed")


def _wider_networks(plan: Plan) -> Iterator[Changes]:
    network = ipaddress.IPv4Network(plan.deployment.network.cidr)
    for prefix in range(network.prefixlen - 1, 15, -1):
        yield {"network.cidr": str(network.supernet(new_prefix=prefix))}


@rule(
    "addresses",
    Severity.ERROR,
    _wider_networks,
    lambda plan: [
        {"orchestrator.max_tasks": tasks} for tasks in range(plan.deployment.orchestrator.max_tasks, 0, -1)
    ],
)
def addresses(plan: Plan) -> Found[str]:
    """The private subnets have enough addresses for every task, and for twice as many during a release."""
    network = plan.deployment.network
    if network.existing_vpc:
        return
    count = len(network.availability_zones) or network.zones
    prefix = ipaddress.IPv4Network(network.cidr).prefixlen + math.ceil(math.log2(2 * count))
    there = count * (2 ** (32 - prefix) - _RESERVED_ADDRESSES) if prefix <= _LONGEST_PREFIX else 0
    engines = sum(one.limits.most + int(one.deployment.gpu.spare_instance) for one in plan.entries)
    tasks = plan.deployment.orchestrator.max_tasks
    needed = 2 * tasks + 2 * engines + count * _LOAD_BALANCER_ADDRESSES
    if there >= needed:
        return
    yield (
        "network.cidr",
        f"{network.cidr} gives {count} private subnets {there} addresses, but {tasks} tasks (twice during a "
        f"release), {engines} engines with their instances, and the load balancer need {needed}",
    )


def _one_region(plan: Plan) -> Iterator[Changes]:
    regions = _regions(plan)
    yield {"region": next(iter(regions.values()), None)}
    yield {"network.availability_zones": ()}
    yield {"region": None}


@rule("region", Severity.ERROR, _one_region)
def region(plan: Plan) -> Found[str]:
    """Zones, certificate and secrets are in the deployment's region."""
    regions = _regions(plan)
    expected = plan.deployment.region or next(iter(regions.values()), None)
    for setting, found in regions.items():
        if found != expected:
            against = "region" if plan.deployment.region else next(iter(regions))
            yield (setting, f"is in {found}, but {against} is {expected}")
            return


def _regions(plan: Plan) -> dict[str, str]:
    deployment = plan.deployment
    arns = {
        "ingress.certificate_arn": deployment.ingress.certificate_arn,
        "model.hf_token_secret_arn": deployment.model.hf_token_secret_arn,
        "tools.database_url_secret_arn": deployment.tools.database_url_secret_arn,
        **deployment.tools.secret_arns,
    }
    zones_ = {
        f"network.availability_zones.{i}": zone
        for i, zone in enumerate(deployment.network.availability_zones)
    }
    if deployment.network.existing_vpc:
        for i, zone in enumerate(deployment.network.existing_vpc.availability_zones):
            zones_[f"network.existing_vpc.availability_zones.{i}"] = zone
    return {setting: zone[:-1] for setting, zone in zones_.items()} | {
        setting: arn.split(":")[3] for setting, arn in arns.items() if arn
    }


RULES = (
    nat,
    existing_vpc,
    zones,
    addresses,
    region,
)
