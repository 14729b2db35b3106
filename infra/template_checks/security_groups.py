"""Rules on security groups: what may connect to what is exactly what the parts need of one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from infra.deployment.checks.rule import Found, rule

from .gpu_instances import engine_services
from .services import orchestrator_services
from .template import Assembly, Resource

_EVERYWHERE = "0.0.0.0/0"
_HTTPS, _ORCHESTRATOR, _POSTGRESQL = 443, 8001, 5432
ENGINE_PORTS = (8000, 8002)
"""vLLM, and the state of its start."""

_NO_TRAFFIC = "255.255.255.255/32"
"""What the CDK writes where nothing goes out, because a group without rules would let everything out."""


class Flow(NamedTuple):
    """A TCP port, and the group, group id or network at the other end."""

    port: int
    peer: Resource | str

    def __str__(self) -> str:
        peer = self.peer if isinstance(self.peer, str) else self.peer.logical_id
        return f"port {self.port} of {peer}"


class _Parts:
    """The security groups of each part."""

    def __init__(self, assembly: Assembly) -> None:
        self.balancers = _groups_of(assembly, assembly.of_kind("AWS::ElasticLoadBalancingV2::LoadBalancer"))
        self.orchestrators = _groups_of(assembly, [one for one, _ in orchestrator_services(assembly)])
        self.engines = _groups_of(assembly, [one for one, _ in engine_services(assembly)])
        templates = assembly.of_kind("AWS::EC2::LaunchTemplate")
        self.instances = {
            group
            for template in templates
            for reference in template.get("LaunchTemplateData.SecurityGroupIds", [])
            if (group := assembly.target(template.template, reference)) is not None
        }


@rule("T-reachability")
def reachability(assembly: Assembly) -> Found[Resource]:
    """Clients reach only the load balancer, it only the orchestrator, and that only the engines."""
    parts = _Parts(assembly)
    callers: set[Resource | str] = set(parts.balancers)
    scraper = assembly.plan.deployment.metrics.scraper_security_group
    if scraper:
        callers.add(scraper)
    tiers: tuple[tuple[set[Resource], set[Flow]], ...] = (
        (parts.balancers, _clients(assembly)),
        (parts.orchestrators, {Flow(_ORCHESTRATOR, one) for one in callers}),
        (parts.engines, {Flow(port, one) for one in parts.orchestrators for port in ENGINE_PORTS}),
        (parts.instances, set()),
    )
    for groups, expected in tiers:
        for group in groups:
            yield from _compare(assembly, group, "Ingress", expected)


@rule("T-egress")
def egress(assembly: Assembly) -> Found[Resource]:
    """Every part can open the connections that it needs, and no others."""
    parts = _Parts(assembly)
    internet = Flow(_HTTPS, _EVERYWHERE)
    orchestrators = {internet, *(Flow(port, one) for one in parts.engines for port in ENGINE_PORTS)}
    tools = assembly.plan.deployment.tools
    if tools.database_url_secret_arn:
        orchestrators.add(Flow(_POSTGRESQL, _EVERYWHERE))
    orchestrators |= {Flow(one.port, one.cidr or one.security_group or "") for one in tools.egress}
    tiers = (
        (parts.balancers, {Flow(_ORCHESTRATOR, one) for one in parts.orchestrators}),
        (parts.orchestrators, orchestrators),
        (parts.engines, {internet}),
        (parts.instances, {internet}),
    )
    for groups, expected in tiers:
        for group in groups:
            yield from _compare(assembly, group, "Egress", expected)


def _clients(assembly: Assembly) -> set[Flow]:
    """What clients may connect to: every listener, from every allowed network."""
    listeners = assembly.of_kind("AWS::ElasticLoadBalancingV2::Listener")
    ports = {int(one.number("Port", 0)) for one in listeners}
    return {Flow(port, cidr) for port in ports for cidr in assembly.plan.deployment.ingress.allowed_cidrs}


def _compare(assembly: Assembly, group: Resource, direction: str, expected: set[Flow]) -> Found[Resource]:
    entries = list(_rules(assembly, group, direction))
    found = {_flow(assembly, group, entry, direction) for entry in entries}
    verb = "come in from" if direction == "Ingress" else "go out to"
    for flow in sorted(map(str, expected - found)):
        yield (group, f"connections must be able to {verb} {flow}")
    for flow in sorted(map(str, found - expected)):
        yield (group, f"connections may {verb} {flow}, which nothing needs")


def _groups_of(assembly: Assembly, resources: list[Resource]) -> set[Resource]:
    found: set[Resource] = set()
    for one in resources:
        references = one.get("SecurityGroups") or one.get(
            "NetworkConfiguration.AwsvpcConfiguration.SecurityGroups", []
        )
        found |= {group for r in references if (group := assembly.target(one.template, r)) is not None}
    return found


def _rules(assembly: Assembly, group: Resource, direction: str) -> Iterator[dict[str, Any]]:
    """The rules in the group and those beside it. A group without outbound rules lets everything out."""
    entries = list(group.get(f"SecurityGroup{direction}", []))
    entries += [
        dict(entry.properties)
        for entry in assembly.of_kind(f"AWS::EC2::SecurityGroup{direction}")
        if assembly.follow(entry, "GroupId") == group
    ]
    if direction == "Egress" and not entries:
        entries = [{"IpProtocol": "-1", "CidrIp": _EVERYWHERE}]
    yield from (entry for entry in entries if entry.get("CidrIp") != _NO_TRAFFIC)


def _flow(assembly: Assembly, group: Resource, entry: dict[str, Any], direction: str) -> Flow | str:
    """One TCP port and its peer; anything wider as text, which no part needs."""
    name = "SourceSecurityGroupId" if direction == "Ingress" else "DestinationSecurityGroupId"
    peers = [entry[key] for key in ("CidrIp", name, "CidrIpv6", "SourcePrefixListId") if key in entry]
    ports = (entry.get("FromPort"), entry.get("ToPort"))
    peer = assembly.target(group.template, peers[0]) or str(peers[0]) if len(peers) == 1 else None
    if peer is None or entry.get("IpProtocol") != "tcp" or ports[0] is None or ports[0] != ports[1]:
        return f"{entry.get('IpProtocol')} ports {ports[0]} to {ports[1]} of {peers}"
    return Flow(int(ports[0]), peer)


RULES = (
    reachability,
    egress,
)
