"""Whether the zones have the instance type, and an existing VPC the routes."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from infra.deployment.settings import ExistingVpc
from ops.account import Account, code_of, translated
from ops.report import Mark, Result

SUBJECT = "existing VPC"
_NAT_TARGETS = ("NatGatewayId", "TransitGatewayId", "InstanceId", "NetworkInterfaceId", "GatewayId")


def look_at_offerings(account: Account) -> list[Result]:
    """Each instance type in the zones that the deployment uses."""
    ec2 = account.client("ec2")
    wanted = account.deployment.gpu.instance_types
    zones = _zones(account, ec2)
    offered: dict[str, set[str]] = {name: set() for name in wanted}
    pages = ec2.get_paginator("describe_instance_type_offerings").paginate(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": list(wanted)}]
    )
    for page in pages:
        for one in page["InstanceTypeOfferings"]:
            offered[one["InstanceType"]].add(one["Location"])
    return [_offering(account, name, zones, offered[name]) for name in wanted]


def _zones(account: Account, ec2: Any) -> list[str]:
    network = account.deployment.network
    if network.existing_vpc is not None:
        return list(network.existing_vpc.availability_zones)
    if network.availability_zones:
        return list(network.availability_zones)
    filters = [{"Name": "opt-in-status", "Values": ["opt-in-not-required"]}]
    known = [one["ZoneName"] for one in ec2.describe_availability_zones(Filters=filters)["AvailabilityZones"]]
    return sorted(known)[: network.zones]  # as Fn::GetAZs gives them


def _offering(account: Account, name: str, zones: list[str], offered: set[str]) -> Result:
    missing = [zone for zone in zones if zone not in offered]
    if not missing:
        return Result(Mark.OK, "instance type", f"{name} is offered in {', '.join(zones)}")
    elsewhere = ", ".join(sorted(offered)) or f"no zone of {account.region}"
    found = f"{name} is not offered in {', '.join(missing)}; it is in {elsewhere}"
    if not offered:
        return Result(Mark.WRONG, "instance type", found, "gpu.instance_types, or another region")
    fix = f"network.availability_zones: [{', '.join(sorted(offered)[:3])}]"
    if len(missing) == len(zones):
        return Result(Mark.WRONG, "instance type", found, fix)
    return Result(Mark.WARNING, "instance type", found, f"{fix}, to find GPUs in each")


def look_at_existing_vpc(account: Account) -> list[Result]:
    """That VPC and subnets are there, DNS works in it, and each subnet has the way out that it needs."""
    vpc = account.deployment.network.existing_vpc
    if vpc is None:
        return [Result(Mark.OK, SUBJECT, "none: the deployment makes its own")]
    ec2 = account.client("ec2")
    try:
        with translated():
            described = ec2.describe_vpcs(VpcIds=[vpc.vpc_id])["Vpcs"][0]
            subnets = _subnets(ec2, vpc)
    except ClientError as error:
        if not code_of(error).endswith(".NotFound"):
            raise
        message = str(error.response["Error"]["Message"])
        return [Result(Mark.WRONG, SUBJECT, message, "network.existing_vpc in tandem.yaml, and the region")]
    results = [*_dns(ec2, vpc.vpc_id)]
    if described["CidrBlock"] != vpc.cidr:
        found = f"{vpc.vpc_id} is {described['CidrBlock']}, the file says {vpc.cidr}"
        results.append(
            Result(Mark.WRONG, SUBJECT, found, f"network.existing_vpc.cidr: {described['CidrBlock']}")
        )
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc.vpc_id]}])["RouteTables"]
    for subnet in subnets:
        public = subnet["SubnetId"] in vpc.public_subnet_ids
        results += _subnet(subnet, vpc, tables, public=public)
    return results or [
        Result(Mark.OK, SUBJECT, f"{vpc.vpc_id}: DNS, and a way out for {len(subnets)} subnets")
    ]


def _subnets(ec2: Any, vpc: ExistingVpc) -> list[Any]:
    ids = [*vpc.private_subnet_ids, *vpc.public_subnet_ids]
    found: list[Any] = ec2.describe_subnets(SubnetIds=ids)["Subnets"]
    return found


def _dns(ec2: Any, vpc_id: str) -> list[Result]:
    results = []
    for attribute, answer in (
        ("enableDnsSupport", "EnableDnsSupport"),
        ("enableDnsHostnames", "EnableDnsHostnames"),
    ):
        described = ec2.describe_vpc_attribute(VpcId=vpc_id, Attribute=attribute)
        if not described[answer]["Value"]:
            option = "--enable-dns-support" if "Support" in attribute else "--enable-dns-hostnames"
            fix = f"aws ec2 modify-vpc-attribute --vpc-id {vpc_id} {option}"
            found = f"{attribute} is off: the orchestrator would not find the engine by its name"
            results.append(Result(Mark.WRONG, SUBJECT, found, fix))
    return results


def _subnet(subnet: Any, vpc: ExistingVpc, tables: list[Any], *, public: bool) -> list[Result]:
    name = subnet["SubnetId"]
    if subnet["VpcId"] != vpc.vpc_id:
        return [Result(Mark.WRONG, SUBJECT, f"{name} is in {subnet['VpcId']}", "network.existing_vpc")]
    target = _default_route(name, tables)
    if public and not target.startswith("igw-"):
        found = f"public subnet {name}: its default route leads to {target or 'nothing'}"
        return [Result(Mark.WRONG, SUBJECT, found, "a route of 0.0.0.0/0 to the VPC's internet gateway")]
    if not public and target.startswith("igw-"):
        found = f"private subnet {name}: its default route leads to an internet gateway"
        return [
            Result(Mark.WRONG, SUBJECT, found, "a route of 0.0.0.0/0 to a NAT gateway, or another subnet")
        ]
    if not public and not target:
        found = f"private subnet {name} has no default route: no image, no weights"
        return [Result(Mark.WRONG, SUBJECT, found, "a route of 0.0.0.0/0 to a NAT gateway")]
    return []


def _default_route(subnet: str, tables: list[Any]) -> str:
    """Where 0.0.0.0/0 leads for a subnet; the VPC's main table serves those that name none."""

    def serves(table: Any, *, main: bool) -> bool:
        return any(
            one.get("Main", False) if main else one.get("SubnetId") == subnet for one in table["Associations"]
        )

    own = [table for table in tables if serves(table, main=False)]
    for table in own or [table for table in tables if serves(table, main=True)]:
        for route in table["Routes"]:
            if route.get("DestinationCidrBlock") == "0.0.0.0/0":
                return str(next((route[key] for key in _NAT_TARGETS if route.get(key)), ""))
    return ""
