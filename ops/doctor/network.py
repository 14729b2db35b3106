"""Checks instance types per zone, and the routes of an existing VPC."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from infra.deployment.settings import ExistingVpc
from ops.account import Account, code_of, translated
from ops.report import Result, Status

SUBJECT = "existing VPC"
TOOLS = "tool connections"
_NAT_TARGETS = ("NatGatewayId", "TransitGatewayId", "InstanceId", "NetworkInterfaceId", "GatewayId")


def check_offerings(account: Account) -> list[Result]:
    """Checks each instance type in the zones that the deployment uses."""
    ec2 = account.client("ec2")
    wanted = account.deployment.instance_types
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
    return _zones_with_default_subnet(ec2)[: network.zones]


def _zones_with_default_subnet(ec2: Any) -> list[str]:
    """What `Fn::GetAZs` returns: only zones with a default subnet, or every zone if there is none at all.

    Source: the AWS CloudFormation user guide, `Fn::GetAZs`.
    """
    pages = ec2.get_paginator("describe_subnets").paginate(
        Filters=[{"Name": "default-for-az", "Values": ["true"]}]
    )
    zones = {subnet["AvailabilityZone"] for page in pages for subnet in page["Subnets"]}
    return sorted(zones) or _all_zones(ec2)


def _all_zones(ec2: Any) -> list[str]:
    filters = [{"Name": "opt-in-status", "Values": ["opt-in-not-required"]}]
    return sorted(
        one["ZoneName"] for one in ec2.describe_availability_zones(Filters=filters)["AvailabilityZones"]
    )


def check_zones(account: Account) -> list[Result]:
    """Whether a new network finds as many zones as it asks for."""
    network = account.deployment.network
    if network.existing_vpc is not None or network.availability_zones:
        return [Result(Status.OK, "zones", "the deployment file names them")]
    ec2 = account.client("ec2")
    found = _zones_with_default_subnet(ec2)
    if len(found) >= network.zones:
        return [Result(Status.OK, "zones", ", ".join(found[: network.zones]))]
    message = (
        f"{network.zones} zones are wanted, and CloudFormation chooses only among those with a default "
        f"subnet: {', '.join(found)}"
    )
    names = ", ".join(_all_zones(ec2)[: network.zones])
    return [Result(Status.ERROR, "zones", message, f"network.availability_zones: [{names}]")]


def _offering(account: Account, name: str, zones: list[str], offered: set[str]) -> Result:
    missing = [zone for zone in zones if zone not in offered]
    if not missing:
        return Result(Status.OK, "instance type", f"{name} is offered in {', '.join(zones)}")
    elsewhere = ", ".join(sorted(offered)) or f"no zone of {account.region}"
    found = f"{name} is not offered in {', '.join(missing)}, only in {elsewhere}"
    if not offered:
        return Result(Status.ERROR, "instance type", found, "change gpu.instance_types or the region")
    fix = f"network.availability_zones: [{', '.join(sorted(offered)[:3])}]"
    if len(missing) == len(zones):
        return Result(Status.ERROR, "instance type", found, fix)
    return Result(Status.WARNING, "instance type", found, f"{fix}, so that each zone has GPUs")


def check_existing_vpc(account: Account) -> list[Result]:
    """Checks that VPC and subnets exist, DNS works, and each subnet has the route it needs."""
    vpc = account.deployment.network.existing_vpc
    if vpc is None:
        return [Result(Status.OK, SUBJECT, "not used: the deployment creates its own")]
    if not vpc.known:
        return []  # the check of the file reports it
    ec2 = account.client("ec2")
    try:
        with translated():
            described = ec2.describe_vpcs(VpcIds=[vpc.vpc_id])["Vpcs"][0]
            subnets = _subnets(ec2, vpc)
    except ClientError as error:
        if not code_of(error).endswith(".NotFound"):
            raise
        message = str(error.response["Error"]["Message"])
        return [Result(Status.ERROR, SUBJECT, message, "correct network.existing_vpc, or the region")]
    results = [*_dns(ec2, vpc.vpc_id)]
    if described["CidrBlock"] != vpc.cidr:
        found = f"{vpc.vpc_id} has {described['CidrBlock']}, but the file says {vpc.cidr}"
        results.append(
            Result(Status.ERROR, SUBJECT, found, f"network.existing_vpc.cidr: {described['CidrBlock']}")
        )
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc.vpc_id]}])["RouteTables"]
    for subnet in subnets:
        public = subnet["SubnetId"] in vpc.public_subnet_ids
        results += _subnet(subnet, vpc, tables, public=public)
    return results or [
        Result(Status.OK, SUBJECT, f"{vpc.vpc_id}: DNS works, and {len(subnets)} subnets have their routes")
    ]


def check_tool_connections(account: Account) -> list[Result]:
    """Checks that the security groups that tools connect to exist, in the VPC of the deployment."""
    groups = [one.security_group for one in account.deployment.tools.egress if one.security_group]
    vpc = account.deployment.network.existing_vpc
    if not groups or vpc is None:
        return [Result(Status.OK, TOOLS, "to no security groups")]
    try:
        with translated():
            described = account.client("ec2").describe_security_groups(GroupIds=groups)["SecurityGroups"]
    except ClientError as error:
        if not code_of(error).endswith(".NotFound"):
            raise
        message = str(error.response["Error"]["Message"])
        return [Result(Status.ERROR, TOOLS, message, "correct tools.egress, or the region")]
    foreign = [one["GroupId"] for one in described if one["VpcId"] != vpc.vpc_id]
    if foreign:
        found = f"{', '.join(foreign)} not in {vpc.vpc_id}"
        return [Result(Status.ERROR, TOOLS, found, "use the network of the other end (cidr) in tools.egress")]
    return [Result(Status.OK, TOOLS, f"{', '.join(groups)} in {vpc.vpc_id}")]


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
            found = f"{attribute} is off, so the orchestrator could not resolve the engine's name"
            results.append(Result(Status.ERROR, SUBJECT, found, fix))
    return results


def _subnet(subnet: Any, vpc: ExistingVpc, tables: list[Any], *, public: bool) -> list[Result]:
    name = subnet["SubnetId"]
    if subnet["VpcId"] != vpc.vpc_id:
        return [
            Result(Status.ERROR, SUBJECT, f"{name} is in {subnet['VpcId']}", "correct network.existing_vpc")
        ]
    target = default_route(name, tables)
    if public and not target.startswith("igw-"):
        found = f"public subnet {name}: its default route leads to {target or 'nothing'}"
        return [Result(Status.ERROR, SUBJECT, found, "route 0.0.0.0/0 to the VPC's internet gateway")]
    if not public and target.startswith("igw-"):
        found = f"private subnet {name}: its default route leads to an internet gateway"
        return [Result(Status.ERROR, SUBJECT, found, "route 0.0.0.0/0 to a NAT gateway")]
    if not public and not target:
        found = f"private subnet {name} has no default route, so images and weights cannot be downloaded"
        return [Result(Status.ERROR, SUBJECT, found, "route 0.0.0.0/0 to a NAT gateway")]
    return []


def default_route(subnet: str, tables: list[Any]) -> str:
    """Returns the target of 0.0.0.0/0 for a subnet. The VPC's main table applies if it has no own table."""

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
