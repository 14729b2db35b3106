"""Rules on the network: routes, name resolution, and where the load balancer stands."""

from __future__ import annotations

from collections.abc import Iterator

from infra.deployment.checks.rule import Found, rule

from .template import Assembly, Resource

_EVERYWHERE = "0.0.0.0/0"


@rule("T-routes")
def routes(assembly: Assembly) -> Found[Resource]:
    """Tasks and instances reach the internet through NAT, clients a public load balancer from it."""
    for subnet, user in _private_users(assembly):
        problem = _no_way_through_nat(assembly, subnet)
        if problem:
            yield (subnet, f"{user.logical_id} runs here, and {problem}")
    for balancer in assembly.of_kind("AWS::ElasticLoadBalancingV2::LoadBalancer"):
        if balancer.get("Scheme") != "internet-facing":
            continue
        for subnet in _subnets(assembly, balancer, "Subnets"):
            if not _reaches_internet_gateway(assembly, subnet):
                yield (
                    subnet,
                    f"{balancer.logical_id} is public, and this subnet has no route to an internet gateway",
                )


@rule("T-public-addresses")
def public_addresses(assembly: Assembly) -> Found[Resource]:
    """Tasks have no public address: their security groups are not their only protection."""
    for service in assembly.of_kind("AWS::ECS::Service"):
        if service.get("NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp", "DISABLED") != "DISABLED":
            yield (service, "AssignPublicIp must be DISABLED")


@rule("T-vpc-dns")
def vpc_dns(assembly: Assembly) -> Found[Resource]:
    """The engine's name is in a private zone, which a VPC resolves only with both of its DNS settings on."""
    for vpc in assembly.of_kind("AWS::EC2::VPC"):
        for name, default in (("EnableDnsSupport", True), ("EnableDnsHostnames", False)):
            if vpc.get(name, default) is not True:
                yield (vpc, f"{name} must be true")
        for namespace in assembly.of_kind("AWS::ServiceDiscovery::PrivateDnsNamespace"):
            if assembly.follow(namespace, "Vpc") != vpc:
                yield (namespace, f"it must be in {vpc.logical_id}, where the tasks run")


@rule("T-scheme")
def scheme(assembly: Assembly) -> Found[Resource]:
    """The load balancer has a public address only if the deployment file says so."""
    ingress = assembly.plan.deployment.ingress
    public = ingress.scheme == "public" and not ingress.cloudfront
    expected = "internet-facing" if public else "internal"
    for balancer in assembly.of_kind("AWS::ElasticLoadBalancingV2::LoadBalancer"):
        found = balancer.get("Scheme", "internet-facing")
        if found != expected:
            reason = "ingress.cloudfront: true" if ingress.cloudfront else f"ingress.scheme: {ingress.scheme}"
            yield (balancer, f"Scheme is {found}, and with {reason} it must be {expected}")


def _private_users(assembly: Assembly) -> Iterator[tuple[Resource, Resource]]:
    """The subnets that tasks and instances run in, each with one that does."""
    for kind, path in (
        ("AWS::ECS::Service", "NetworkConfiguration.AwsvpcConfiguration.Subnets"),
        ("AWS::AutoScaling::AutoScalingGroup", "VPCZoneIdentifier"),
    ):
        for user in assembly.of_kind(kind):
            for subnet in _subnets(assembly, user, path):
                yield subnet, user


def _subnets(assembly: Assembly, user: Resource, path: str) -> list[Resource]:
    """Those of our own network; doctor checks the subnets of an existing one."""
    found = (assembly.target(user.template, one) for one in user.get(path, []))
    return [subnet for subnet in found if subnet is not None]


def _no_way_through_nat(assembly: Assembly, subnet: Resource) -> str | None:
    """Why nothing in the subnet reaches the internet; None if it does."""
    found = [gateway for gateway in _default_routes(assembly, subnet, "NatGatewayId") if gateway]
    if not found:
        return "the subnet has no route to a NAT gateway"
    for gateway in found:
        home = assembly.follow(gateway, "SubnetId")
        if home is None or not _reaches_internet_gateway(assembly, home):
            return f"the subnet of {gateway.logical_id} has no route to an internet gateway"
        if assembly.follow(gateway, "AllocationId") is None:
            return f"{gateway.logical_id} has no public address"
    return None


def _reaches_internet_gateway(assembly: Assembly, subnet: Resource) -> bool:
    attached = {
        assembly.follow(attachment, "InternetGatewayId")
        for attachment in assembly.of_kind("AWS::EC2::VPCGatewayAttachment")
    }
    return any(gateway in attached for gateway in _default_routes(assembly, subnet, "GatewayId"))


def _default_routes(assembly: Assembly, subnet: Resource, target: str) -> list[Resource]:
    """What the default routes of a subnet's own route table lead to."""
    tables = [
        assembly.follow(association, "RouteTableId")
        for association in assembly.of_kind("AWS::EC2::SubnetRouteTableAssociation")
        if assembly.follow(association, "SubnetId") == subnet
    ]
    found = [
        assembly.follow(route, target)
        for route in assembly.of_kind("AWS::EC2::Route")
        if assembly.follow(route, "RouteTableId") in tables
        and route.get("DestinationCidrBlock") == _EVERYWHERE
    ]
    return [gateway for gateway in found if gateway is not None]


RULES = (
    routes,
    public_addresses,
    vpc_dns,
    scheme,
)
