"""What doctor reports about zones, instance types in them, and an existing VPC."""

from __future__ import annotations

from typing import Any

import pytest

from ops.doctor import network
from ops.report import Status
from tests.ops.scripted_aws import Answer, Refused, account

from .expectations import VPC, expect


@pytest.mark.parametrize(
    ("offered", "mark", "fix"),
    [
        (["us-east-1a", "us-east-1b", "us-east-1c"], Status.OK, ""),
        (["us-east-1a"], Status.WARNING, "network.availability_zones: [us-east-1a]"),
        (["us-east-1c"], Status.ERROR, "network.availability_zones: [us-east-1c]"),
        ([], Status.ERROR, "gpu.instance_types"),
    ],
)
def test_instance_type_in_the_zones_that_are_used(offered: list[str], mark: Status, fix: str) -> None:
    answers: dict[str, Answer] = {
        **default_subnets("cba"),
        "ec2.DescribeInstanceTypeOfferings": {
            "InstanceTypeOfferings": [{"InstanceType": "g5.xlarge", "Location": zone} for zone in offered]
        },
    }
    expect(network.check_offerings(account(answers))[0], mark, "g5.xlarge", fix)


def default_subnets(letters: str) -> dict[str, Answer]:
    """Default subnets in these zones of a region that has the zones a to c."""
    zones = [{"ZoneName": f"us-east-1{letter}"} for letter in "cba"]
    subnets = [{"AvailabilityZone": f"us-east-1{letter}"} for letter in letters]
    return {
        "ec2.DescribeAvailabilityZones": {"AvailabilityZones": zones},
        "ec2.DescribeSubnets": {"Subnets": subnets},
    }


@pytest.mark.parametrize(
    ("letters", "mark", "found", "fix"),
    [
        ("cba", Status.OK, "us-east-1a, us-east-1b", ""),
        ("", Status.OK, "us-east-1a, us-east-1b", ""),
        ("c", Status.ERROR, "a default subnet: us-east-1c", "availability_zones: [us-east-1a, us-east-1b]"),
    ],
)
def test_new_network_needs_zones_with_default_subnets(
    letters: str, mark: Status, found: str, fix: str
) -> None:
    (result,) = network.check_zones(account(default_subnets(letters)))
    expect(result, mark, found, fix)


def test_zones_that_the_file_names_are_not_looked_up() -> None:
    named = account({}, network__availability_zones=("us-east-1a", "us-east-1b"))
    assert network.check_zones(named)[0].status is Status.OK


def vpc_answers(
    private: str = "nat-1", public: str = "igw-1", dns: bool = True, cidr: str = "10.1.0.0/16"
) -> dict[str, Answer]:
    subnets = [*VPC["private_subnet_ids"], *VPC["public_subnet_ids"]]

    def table(ids: Any, target: str) -> dict[str, Any]:
        key = {"nat": "NatGatewayId", "igw": "GatewayId"}.get(target[:3])
        routes = [{"DestinationCidrBlock": "0.0.0.0/0", key: target}] if key else []
        return {"Associations": [{"SubnetId": one} for one in ids], "Routes": routes}

    return {
        "ec2.DescribeVpcs": {"Vpcs": [{"VpcId": VPC["vpc_id"], "CidrBlock": cidr}]},
        "ec2.DescribeSubnets": {"Subnets": [{"SubnetId": one, "VpcId": VPC["vpc_id"]} for one in subnets]},
        "ec2.DescribeVpcAttribute": {
            "EnableDnsSupport": {"Value": dns}, "EnableDnsHostnames": {"Value": dns},
        },
        "ec2.DescribeRouteTables": {
            "RouteTables": [
                table(VPC["private_subnet_ids"], private), table(VPC["public_subnet_ids"], public),
            ]
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "mark", "found", "fix"),
    [
        (vpc_answers(), Status.OK, "4 subnets have their routes", ""),
        (vpc_answers(private="none"), Status.ERROR, "no default route", "NAT gateway"),
        (vpc_answers(private="igw-1"), Status.ERROR, "leads to an internet gateway", "NAT gateway"),
        (vpc_answers(public="nat-1"), Status.ERROR, "public subnet", "internet gateway"),
        (vpc_answers(dns=False), Status.ERROR, "enableDnsSupport is off", "--enable-dns-support"),
        (vpc_answers(cidr="10.9.0.0/16"), Status.ERROR, "10.9.0.0/16", "network.existing_vpc.cidr"),
        (
            {**vpc_answers(), "ec2.DescribeVpcs": Refused("InvalidVpcID.NotFound", "no vpc-012345")},
            Status.ERROR, "no vpc-012345", "network.existing_vpc",
        ),
    ],
)  # fmt: skip
def test_existing_vpc(answers: dict[str, Answer], mark: Status, found: str, fix: str) -> None:
    expect(network.check_existing_vpc(account(answers, network__existing_vpc=VPC))[0], mark, found, fix)


def test_main_route_table_applies_to_subnets_without_their_own() -> None:
    route = {"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-1"}
    answers = vpc_answers()
    answers["ec2.DescribeRouteTables"] = {
        "RouteTables": [{"Associations": [{"Main": True}], "Routes": [route]}],
    }
    private_only = {**VPC, "public_subnet_ids": ()}
    answers["ec2.DescribeSubnets"] = {
        "Subnets": [{"SubnetId": one, "VpcId": VPC["vpc_id"]} for one in VPC["private_subnet_ids"]]
    }
    one = account(answers, ingress__scheme="internal", network__existing_vpc=private_only)
    assert network.check_existing_vpc(one)[0].status is Status.OK


GROUP = "sg-0123456789abcdef0"


@pytest.mark.parametrize(
    ("answer", "status", "found"),
    [
        ({"SecurityGroups": [{"GroupId": GROUP, "VpcId": VPC["vpc_id"]}]}, Status.OK, GROUP),
        ({"SecurityGroups": [{"GroupId": GROUP, "VpcId": "vpc-1"}]}, Status.ERROR, f"{GROUP} not in"),
        (Refused("InvalidGroup.NotFound", "no such group"), Status.ERROR, "no such group"),
    ],
)
def test_groups_that_tools_connect_to(answer: Answer, status: Status, found: str) -> None:
    one = account(
        {"ec2.DescribeSecurityGroups": answer},
        network__existing_vpc=VPC,
        tools__egress=[{"port": 6379, "security_group": GROUP}],
    )
    expect(network.check_tool_connections(one)[0], status, found, "tools.egress" * (status is Status.ERROR))


def test_tools_that_connect_to_no_group_need_no_check() -> None:
    assert network.check_tool_connections(account({}))[0].status is Status.OK
