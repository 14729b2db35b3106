"""An existing VPC is given by its ID; the rest is looked up and written into the deployment file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.deployment.file import load_deployment
from ops.account import Failed
from ops.existing_vpc import completed, look_up
from tests.ops.scripted_aws import Answer, Refused, ScriptedAccount, account

VPC = "vpc-0123456789abcdef0"


def subnet(letter: str, zone: str, free: int) -> dict[str, Any]:
    return {
        "SubnetId": f"subnet-0000000000000000{letter}",
        "AvailabilityZone": f"us-east-1{zone}",
        "AvailableIpAddressCount": free,
        "VpcId": VPC,
    }


def table(target: str, *letters: str, main: bool = False) -> dict[str, Any]:
    kind = "GatewayId" if target.startswith("igw") else "NatGatewayId"
    routes = [{"DestinationCidrBlock": "0.0.0.0/0", kind: target}] if target else []
    own = [{"SubnetId": f"subnet-0000000000000000{one}", "Main": False} for one in letters]
    return {"Routes": routes, "Associations": [*own, *([{"Main": True}] if main else [])]}


def answers(*zones_of_public: str) -> dict[str, Answer]:
    """A VPC with private subnets in three zones, two of them in a, and an isolated one in d."""
    subnets = [
        subnet("1", "a", 10),
        subnet("2", "a", 200),
        subnet("3", "b", 200),
        subnet("4", "c", 200),
        subnet("5", "d", 200),
        *(subnet(letter, zone, 50) for letter, zone in zip("abc", zones_of_public, strict=False)),
    ]
    tables = [table("nat-1", "1", "2", "3", "4"), table("igw-1", "a", "b", "c"), table("", main=True)]
    return {
        "ec2.DescribeVpcs": {"Vpcs": [{"VpcId": VPC, "CidrBlock": "10.7.0.0/16"}]},
        "ec2.DescribeSubnets": {"Subnets": subnets},
        "ec2.DescribeRouteTables": {"RouteTables": tables},
    }


def of_file(file: Path, found: dict[str, Answer]) -> ScriptedAccount:
    one = account(found)
    return ScriptedAccount(one.aws, load_deployment(file).with_setting("region", "us-east-1"))


def test_default_routes_decide_which_subnets_are_private() -> None:
    assert look_up(account(answers("b", "a")), VPC) == {
        "cidr": "10.7.0.0/16",
        "availability_zones": "[us-east-1a, us-east-1b]",
        "private_subnet_ids": "[subnet-00000000000000002, subnet-00000000000000003]",
        "public_subnet_ids": "[subnet-0000000000000000b, subnet-0000000000000000a]",
    }


def test_without_a_public_load_balancer_private_subnets_suffice() -> None:
    found = look_up(account(answers(), ingress__cloudfront=True), VPC)
    assert found["availability_zones"] == "[us-east-1a, us-east-1b, us-east-1c]"
    assert "public_subnet_ids" not in found


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (answers("a"), "in us-east-1a; a public load balancer needs both in two zones"),
        ({"ec2.DescribeVpcs": Refused("InvalidVpcID.NotFound", "no vpc-0")}, "no vpc-0; correct the ID"),
    ],
)
def test_what_is_missing_is_reported(found: dict[str, Answer], message: str) -> None:
    with pytest.raises(Failed, match=message):
        look_up(account(found), VPC)


@pytest.mark.parametrize(
    "text",
    [
        f"network:\n  existing_vpc: {VPC}  # ours\n  zones: 2\n",
        f"network: {{existing_vpc: {VPC}}}\n",
        f"network:\n  existing_vpc:\n    vpc_id: {VPC}  # ours\n\n# The model\nmodel:\n  dtype: auto\n",
        f"network:\n  existing_vpc: {{vpc_id: {VPC}}}  # ours\n",
    ],
)
def test_file_gets_the_subnets_and_keeps_the_rest(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    file = tmp_path / "tandem.yaml"
    file.write_text(text)
    found = completed(of_file(file, answers("a", "b")), file)
    vpc = load_deployment(file).network.existing_vpc
    assert vpc is not None
    assert found.deployment.network.existing_vpc == vpc
    assert (vpc.vpc_id, vpc.cidr, len(vpc.public_subnet_ids)) == (VPC, "10.7.0.0/16", 2)
    for kept in ("# ours", "zones: 2", "# The model\nmodel:\n  dtype: auto\n"):
        assert (kept in file.read_text()) == (kept in text)


def test_known_subnets_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "tandem.yaml"
    file.write_text("{}")
    one = of_file(file, {})
    assert completed(one, file) is one
