"""Rules on the orchestrator, the network and the way in."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterator

from infra.deployment.plan import Plan

from .finding import Severity
from .rule import Changes, Problem, rule

FARGATE_MEMORY_MIB = {
    256: (512, 1024, 2048),
    512: range(1024, 4096 + 1, 1024),
    1024: range(2048, 8192 + 1, 1024),
    2048: range(4096, 16384 + 1, 1024),
    4096: range(8192, 30720 + 1, 1024),
    8192: range(16384, 61440 + 1, 4096),
    16384: range(32768, 122880 + 1, 8192),
}
"""CPU units of a Fargate task and the memory in MiB that goes with them (Amazon ECS developer guide,
task_definition_parameters, task size)."""

MARGIN_SECONDS = 30
"""By which timeouts that wait for one another differ."""

CLOUDFRONT_RESPONSE_SECONDS = 120
"""Longest wait of CloudFront for an answer's next byte without a raised quota."""

EVERYWHERE = "0.0.0.0/0"


def _memories(plan: Plan) -> Iterator[Changes]:
    given = plan.deployment.orchestrator
    for memory in sorted(FARGATE_MEMORY_MIB.get(given.cpu, ()), key=lambda one: abs(one - given.memory_mib)):
        yield {"orchestrator.memory_mib": memory}


def _cpus(plan: Plan) -> Iterator[Changes]:
    given = plan.deployment.orchestrator
    for cpu in sorted(FARGATE_MEMORY_MIB, key=lambda one: abs(one - given.cpu)):
        yield {"orchestrator.cpu": cpu}


def _pairs(plan: Plan) -> Iterator[Changes]:
    given = plan.deployment.orchestrator
    cpu = min(FARGATE_MEMORY_MIB, key=lambda one: abs(one - given.cpu))
    memory = min(FARGATE_MEMORY_MIB[cpu], key=lambda one: abs(one - given.memory_mib))
    yield {"orchestrator.cpu": cpu, "orchestrator.memory_mib": memory}


@rule("fargate-size", Severity.ERROR, _memories, _cpus, _pairs)
def fargate_size(plan: Plan) -> Problem | None:
    """Fargate has fixed pairs of CPU and memory."""
    given = plan.deployment.orchestrator
    memories = FARGATE_MEMORY_MIB.get(given.cpu)
    if memories is None:
        return Problem(
            "orchestrator.cpu", f"Fargate has no {given.cpu}, only {', '.join(map(str, FARGATE_MEMORY_MIB))}"
        )
    if given.memory_mib not in memories:
        step = memories[1] - memories[0]
        return Problem(
            "orchestrator.memory_mib",
            f"with cpu {given.cpu}, Fargate has {memories[0]} to {memories[-1]} MiB in steps of {step}, not "
            f"{given.memory_mib}",
        )
    return None


@rule(
    "task-count",
    Severity.ERROR,
    lambda plan: [{"orchestrator.max_tasks": plan.deployment.orchestrator.min_tasks}],
    lambda plan: [{"orchestrator.min_tasks": plan.deployment.orchestrator.max_tasks}],
)
def task_count(plan: Plan) -> Problem | None:
    """The least number of tasks is not above the most."""
    given = plan.deployment.orchestrator
    if given.min_tasks <= given.max_tasks:
        return None
    return Problem("orchestrator.max_tasks", f"{given.max_tasks} is less than min_tasks, {given.min_tasks}")


@rule(
    "deregistration-delay",
    Severity.ERROR,
    lambda plan: [
        {
            "ingress.deregistration_delay_seconds": plan.deployment.orchestrator.request_timeout_seconds
            + MARGIN_SECONDS
        }
    ],
    lambda plan: [
        {
            "orchestrator.request_timeout_seconds": plan.deployment.ingress.deregistration_delay_seconds
            - MARGIN_SECONDS
        }
    ],
)
def deregistration_delay(plan: Plan) -> Problem | None:
    """A task that goes away is told to stop only when its requests have had their whole time."""
    delay = plan.deployment.ingress.deregistration_delay_seconds
    needed = plan.deployment.orchestrator.request_timeout_seconds + MARGIN_SECONDS
    if delay >= needed:
        return None
    return Problem(
        "ingress.deregistration_delay_seconds",
        f"{delay} s cut requests that may take orchestrator.request_timeout_seconds, "
        f"{plan.deployment.orchestrator.request_timeout_seconds} s; it must be {MARGIN_SECONDS} s more",
    )


@rule(
    "idle-timeout",
    Severity.ERROR,
    lambda plan: [
        {
            "ingress.idle_timeout_seconds": plan.deployment.orchestrator.request_timeout_seconds
            + MARGIN_SECONDS
        }
    ],
    lambda plan: [
        {
            "orchestrator.request_timeout_seconds": plan.deployment.ingress.idle_timeout_seconds
            - MARGIN_SECONDS
        }
    ],
)
def idle_timeout(plan: Plan) -> Problem | None:
    """An answer that is not streamed is silent until it is there, and the load balancer must wait for it."""
    idle, request = (
        plan.deployment.ingress.idle_timeout_seconds,
        plan.deployment.orchestrator.request_timeout_seconds,
    )
    if idle >= request + MARGIN_SECONDS:
        return None
    return Problem(
        "ingress.idle_timeout_seconds",
        f"the load balancer closes a silent connection after {idle} s, and an answer that is not streamed "
        f"may take orchestrator.request_timeout_seconds, {request} s; it must be {MARGIN_SECONDS} s more",
    )


@rule(
    "tool-timeout",
    Severity.WARNING,
    lambda plan: [{"tools.timeout_seconds": plan.deployment.orchestrator.request_timeout_seconds - 1}],
)
def tool_timeout(plan: Plan) -> Problem | None:
    """A tool that takes the whole request leaves no time for the answer."""
    tool, request = (
        plan.deployment.tools.timeout_seconds,
        plan.deployment.orchestrator.request_timeout_seconds,
    )
    if tool < request:
        return None
    return Problem(
        "tools.timeout_seconds", f"a tool may take {tool} s, and the whole request only {request} s"
    )


@rule("database-tables", Severity.ERROR, lambda _: [{"tools.database_url_secret_arn": None}])
def database_tables(plan: Plan) -> Problem | None:
    """The orchestrator refuses to start with a database and no list of what may be read of it."""
    tools = plan.deployment.tools
    if tools.database_url_secret_arn is None or tools.database_tables:
        return None
    return Problem("tools.database_tables", "name the tables that query_database may read of your database")


@rule("nat", Severity.ERROR, lambda _: [{"network.nat": "one"}, {"network.nat": "per_zone"}])
def nat(plan: Plan) -> Problem | None:
    """Weights come from the Hugging Face Hub and weather from its service, through a NAT gateway."""
    network = plan.deployment.network
    if network.nat != "none" or network.existing_vpc:
        return None
    return Problem("network.nat", "without a NAT gateway the engine cannot fetch the model's weights")


@rule("zones", Severity.ERROR, lambda _: [{"network.availability_zones": ()}])
def zones(plan: Plan) -> Problem | None:
    """A load balancer needs two zones."""
    named = plan.deployment.network.availability_zones
    if not named or len(set(named)) > 1:
        return None
    return Problem("network.availability_zones", f"{named[0]} is one zone, and a load balancer needs two")


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
def addresses(plan: Plan) -> Problem | None:
    """The private subnets have an address for every task, twice while a release replaces them."""
    network, gpu = plan.deployment.network, plan.deployment.gpu
    if network.existing_vpc:
        return None
    count = len(network.availability_zones) or network.zones
    prefix = ipaddress.IPv4Network(network.cidr).prefixlen + math.ceil(math.log2(2 * count))
    there = count * (2 ** (32 - prefix) - _RESERVED_ADDRESSES) if prefix <= _LONGEST_PREFIX else 0
    engines = gpu.replicas + int(gpu.spare_instance)
    tasks = plan.deployment.orchestrator.max_tasks
    needed = 2 * tasks + 2 * engines + count * _LOAD_BALANCER_ADDRESSES
    if there >= needed:
        return None
    return Problem(
        "network.cidr",
        f"{network.cidr} gives {count} private subnets {there} addresses; {tasks} tasks, twice at "
        f"a release, {engines} engines and their instances, and the load balancer take {needed}",
    )


_RESERVED_ADDRESSES = 5
_LONGEST_PREFIX = 28
_LOAD_BALANCER_ADDRESSES = 8


def _one_region(plan: Plan) -> Iterator[Changes]:
    regions = _regions(plan)
    yield {"region": next(iter(regions.values()), None)}
    yield {"network.availability_zones": ()}
    yield {"region": None}


@rule("region", Severity.ERROR, _one_region)
def region(plan: Plan) -> Problem | None:
    """Zones, certificate and secrets are of the region that is deployed to."""
    regions = _regions(plan)
    expected = plan.deployment.region or next(iter(regions.values()), None)
    for knob, found in regions.items():
        if found != expected:
            against = "region" if plan.deployment.region else next(iter(regions))
            return Problem(knob, f"is of {found}, and {against} of {expected}")
    return None


def _regions(plan: Plan) -> dict[str, str]:
    deployment = plan.deployment
    arns = {
        "ingress.certificate_arn": deployment.ingress.certificate_arn,
        "model.hf_token_secret_arn": deployment.model.hf_token_secret_arn,
        "tools.database_url_secret_arn": deployment.tools.database_url_secret_arn,
    }
    zones_ = {
        f"network.availability_zones.{i}": zone
        for i, zone in enumerate(deployment.network.availability_zones)
    }
    if deployment.network.existing_vpc:
        for i, zone in enumerate(deployment.network.existing_vpc.availability_zones):
            zones_[f"network.existing_vpc.availability_zones.{i}"] = zone
    return {knob: zone[:-1] for knob, zone in zones_.items()} | {
        knob: arn.split(":")[3] for knob, arn in arns.items() if arn
    }


@rule("public-subnets", Severity.ERROR, lambda _: [{"ingress.scheme": "internal"}])
def public_subnets(plan: Plan) -> Problem | None:
    """A public load balancer stands in public subnets."""
    existing, ingress = plan.deployment.network.existing_vpc, plan.deployment.ingress
    if existing is None or existing.public_subnet_ids or ingress.scheme == "internal" or ingress.cloudfront:
        return None
    return Problem("ingress.scheme", "a public load balancer needs network.existing_vpc.public_subnet_ids")


_WITHOUT_CLOUDFRONT: Changes = {"ingress.cloudfront": False}


@rule(
    "cloudfront-scheme",
    Severity.ERROR,
    lambda _: [{"ingress.scheme": "public"}],
    lambda _: [_WITHOUT_CLOUDFRONT],
)
def cloudfront_scheme(plan: Plan) -> Problem | None:
    """CloudFront is public, and brings a load balancer of its own kind."""
    ingress = plan.deployment.ingress
    if not ingress.cloudfront or ingress.scheme == "public":
        return None
    return Problem("ingress.cloudfront", "CloudFront would publish what ingress.scheme keeps internal")


@rule("cloudfront-domain", Severity.ERROR, lambda _: [_WITHOUT_CLOUDFRONT])
def cloudfront_domain(plan: Plan) -> Problem | None:
    """Behind CloudFront the name and certificate are CloudFront's."""
    ingress = plan.deployment.ingress
    if not ingress.cloudfront or not (ingress.certificate_arn or ingress.domain):
        return None
    given = "certificate_arn" if ingress.certificate_arn else "domain"
    return Problem(
        f"ingress.{given}",
        "is not used with ingress.cloudfront, which serves under its own name and certificate",
    )


@rule(
    "cloudfront-cidrs",
    Severity.ERROR,
    lambda _: [{"ingress.allowed_cidrs": (EVERYWHERE,)}],
    lambda _: [_WITHOUT_CLOUDFRONT],
)
def cloudfront_cidrs(plan: Plan) -> Problem | None:
    """Behind CloudFront the load balancer sees CloudFront's addresses, not the clients'."""
    ingress = plan.deployment.ingress
    if not ingress.cloudfront or EVERYWHERE in ingress.allowed_cidrs:
        return None
    return Problem(
        "ingress.allowed_cidrs",
        "cannot be kept with ingress.cloudfront, behind which clients' addresses are hidden",
    )


@rule(
    "cloudfront-timeout",
    Severity.WARNING,
    lambda _: [{"orchestrator.request_timeout_seconds": CLOUDFRONT_RESPONSE_SECONDS}],
    lambda _: [_WITHOUT_CLOUDFRONT],
)
def cloudfront_timeout(plan: Plan) -> Problem | None:
    """Heartbeats carry streams past CloudFront's timeout; other answers have none."""
    request = plan.deployment.orchestrator.request_timeout_seconds
    if not plan.deployment.ingress.cloudfront or request <= CLOUDFRONT_RESPONSE_SECONDS:
        return None
    return Problem(
        "ingress.cloudfront",
        f"CloudFront cuts answers that are not streamed after {CLOUDFRONT_RESPONSE_SECONDS} s, before "
        f"orchestrator.request_timeout_seconds, {request} s",
    )


RULES = (
    fargate_size,
    task_count,
    deregistration_delay,
    idle_timeout,
    tool_timeout,
    database_tables,
    nat,
    zones,
    addresses,
    region,
    public_subnets,
    cloudfront_scheme,
    cloudfront_domain,
    cloudfront_cidrs,
    cloudfront_timeout,
)
