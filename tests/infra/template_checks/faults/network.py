"""Faults of the network: routes, name resolution, where the load balancer stands, security groups."""

from __future__ import annotations

from typing import Any

from tests.infra.template_checks.mutations import (
    BALANCER,
    EGRESS_RULE,
    GROUP,
    INGRESS_RULE,
    ROUTE,
    SERVICE,
    VPC,
    Change,
    Mutation,
    Templates,
    drop,
    put,
    resources,
)

ANYWHERE = {"CidrIp": "0.0.0.0/0", "IpProtocol": "tcp"}
RULES = "SecurityGroupEgress"


def opened(part: str, direction: str, **entry: Any) -> Change:
    """Adds a rule to a security group."""

    def change(templates: Templates) -> None:
        for body in resources(templates, GROUP, part):
            body["Properties"].setdefault(f"SecurityGroup{direction}", []).append({**ANYWHERE, **entry})

    return change


FAULTS = (
    Mutation("private subnet without a route", "T-routes", drop(ROUTE, (), "privateSubnet2DefaultRoute")),
    Mutation(
        "private subnet with another route table",
        "T-routes",
        drop("AWS::EC2::SubnetRouteTableAssociation", (), "privateSubnet1"),
    ),
    Mutation(
        "route for one network only",
        "T-routes",
        put(ROUTE, ("DestinationCidrBlock",), "10.0.0.0/8", "privateSubnet1DefaultRoute"),
    ),
    Mutation("NAT gateway not there", "T-routes", drop("AWS::EC2::NatGateway", ())),
    Mutation("NAT gateway without an address", "T-routes", drop("AWS::EC2::NatGateway", ("AllocationId",))),
    Mutation("NAT gateway cut off", "T-routes", drop(ROUTE, (), "publicSubnet1DefaultRoute"), "spare_gpu"),
    Mutation(
        "internet gateway not attached", "T-routes", drop("AWS::EC2::VPCGatewayAttachment", ()), "own_domain"
    ),
    Mutation("public subnet without a route", "T-routes", drop(ROUTE, (), "publicSubnet2DefaultRoute")),
    Mutation(
        "tasks with public addresses",
        "T-public-addresses",
        put(SERVICE, ("NetworkConfiguration", "AwsvpcConfiguration", "AssignPublicIp"), "ENABLED"),
    ),
    Mutation("DNS off", "T-vpc-dns", put(VPC, ("EnableDnsSupport",), False)),
    Mutation("DNS hostnames off", "T-vpc-dns", drop(VPC, ("EnableDnsHostnames",))),
    Mutation(
        "names of another VPC",
        "T-vpc-dns",
        put("AWS::ServiceDiscovery::PrivateDnsNamespace", ("Vpc",), "vpc-0123456789abcdef0"),
    ),
    Mutation("internal instead of public", "T-scheme", put(BALANCER, ("Scheme",), "internal")),
    Mutation("scheme left out", "T-scheme", drop(BALANCER, ("Scheme",)), "internal"),
    Mutation(
        "public behind CloudFront", "T-scheme", put(BALANCER, ("Scheme",), "internet-facing"), "cloudfront"
    ),
    Mutation(
        "orchestrator not let out to the engine",
        "T-egress",
        drop(EGRESS_RULE, (), "OrchestratorSecurityGroup"),
    ),
    Mutation("load balancer not let out", "T-egress", drop(EGRESS_RULE, (), "IngressSecurityGroup")),
    Mutation("orchestrator without AWS", "T-egress", put(GROUP, (RULES, 0, "FromPort"), 80, "Orchestrator")),
    Mutation("engine without the Hub", "T-egress", put(GROUP, (RULES, 0, "CidrIp"), "10.0.0.0/16", "Engine")),
    Mutation("instances without ECS", "T-egress", put(GROUP, (RULES, 0, "IpProtocol"), "udp", "GpuCapacity")),
    Mutation("everything let out", "T-egress", drop(GROUP, (RULES,), "EngineSecurityGroup")),
    Mutation("any port let out", "T-egress", opened("Engine", "Egress", FromPort=0, ToPort=65535)),
    Mutation("database not reached", "T-egress", drop(GROUP, (RULES, 1), "Orchestrator"), "existing_vpc"),
    Mutation("clients not let in", "T-reachability", drop(GROUP, ("SecurityGroupIngress",), "Ingress")),
    Mutation(
        "networks that are not allowed",
        "T-reachability",
        opened("Ingress", "Ingress", FromPort=443, ToPort=443),
        "own_domain",
    ),
    Mutation(
        "port 80 open without a listener",
        "T-reachability",
        opened("Ingress", "Ingress", FromPort=80, ToPort=80),
    ),
    Mutation(
        "CloudFront not let in",
        "T-reachability",
        drop(GROUP, ("SecurityGroupIngress", 0), "Ingress"),
        "cloudfront",
    ),
    Mutation(
        "scraper not let in",
        "T-reachability",
        drop(GROUP, ("SecurityGroupIngress",), "Orchestrator"),
        "existing_vpc",
    ),
    Mutation(
        "orchestrator not reached", "T-reachability", drop(INGRESS_RULE, (), "OrchestratorSecurityGroup")
    ),
    Mutation(
        "UDP instead of TCP",
        "T-reachability",
        put(INGRESS_RULE, ("IpProtocol",), "udp", "OrchestratorSecurityGroup"),
    ),
)
