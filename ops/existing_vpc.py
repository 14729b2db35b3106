"""Looks up what an existing VPC consists of, and writes it into the deployment file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from infra.deployment.yaml_edit import with_entries

from .account import Account, Failed, code_of, translated
from .command_line import account_of
from .doctor.network import default_route
from .report import say

_MOST_ZONES = 3


def completed(account: Account, deployment_file: Path) -> Account:
    """Returns the account, with the VPC's subnets in the deployment file if they were missing there.

    Raises:
        Failed: The VPC does not exist, or its subnets do not suffice.
    """
    vpc = account.deployment.network.existing_vpc
    if vpc is None or vpc.known:
        return account
    entries = look_up(account, vpc.vpc_id)
    text = deployment_file.read_text(encoding="utf-8")
    edited = with_entries(text, "network", "existing_vpc", entries, key="vpc_id")
    deployment_file.write_text(edited, encoding="utf-8")
    say(f"Wrote the subnets of {vpc.vpc_id} into {deployment_file}; look at them, then commit it")
    found = account_of(deployment_file)
    written = found.deployment.network.existing_vpc
    if written is None or not written.known:
        raise Failed(f"{deployment_file}: network.existing_vpc has empty settings; remove all but vpc_id")
    return found


def look_up(account: Account, vpc_id: str) -> Mapping[str, str]:
    """Returns the settings of `network.existing_vpc` other than its ID, as YAML.

    Of several subnets in a zone, the one with the most free addresses is taken.

    Raises:
        Failed: The VPC does not exist, or fewer than two zones have the subnets that are needed.
    """
    ec2 = account.client("ec2")
    by_vpc: Any = [{"Name": "vpc-id", "Values": [vpc_id]}]
    try:
        with translated():
            vpc = ec2.describe_vpcs(VpcIds=[vpc_id])["Vpcs"][0]
            subnets = ec2.describe_subnets(Filters=by_vpc)["Subnets"]
            tables = ec2.describe_route_tables(Filters=by_vpc)["RouteTables"]
    except ClientError as error:
        if not code_of(error).endswith(".NotFound"):
            raise
        raise Failed(
            f"network.existing_vpc: {error.response['Error']['Message']}; correct the ID or the region"
        ) from None
    private, public = _by_zone(subnets, tables)
    ingress = account.deployment.ingress
    needs_public = ingress.scheme == "public" and not ingress.cloudfront
    zones = sorted(private.keys() & public.keys() if needs_public else private.keys())[:_MOST_ZONES]
    if len(zones) < 2:
        raise Failed(_too_few(vpc_id, private, public, needs_public=needs_public))
    entries = {
        "cidr": str(vpc["CidrBlock"]),
        "availability_zones": _list(zones),
        "private_subnet_ids": _list(private[zone] for zone in zones),
    }
    if all(zone in public for zone in zones):
        entries["public_subnet_ids"] = _list(public[zone] for zone in zones)
    return entries


def _by_zone(subnets: list[Any], tables: list[Any]) -> tuple[dict[str, str], dict[str, str]]:
    """The private and the public subnet of each zone: by where their default route leads, if anywhere."""
    private: dict[str, str] = {}
    public: dict[str, str] = {}
    for subnet in sorted(subnets, key=lambda one: one["AvailableIpAddressCount"]):
        target = default_route(subnet["SubnetId"], tables)
        if target:
            kind = public if target.startswith("igw-") else private
            kind[subnet["AvailabilityZone"]] = subnet["SubnetId"]
    return private, public


def _too_few(
    vpc_id: str, private: Mapping[str, str], public: Mapping[str, str], *, needs_public: bool
) -> str:
    found = (
        f"{vpc_id} has private subnets with a default route in {', '.join(sorted(private)) or 'no zone'} and "
        f"public ones in {', '.join(sorted(public)) or 'no zone'}"
    )
    if needs_public:
        return (
            f"{found}; a public load balancer needs both in two zones. Add them, or set ingress.cloudfront: "
            "true or ingress.scheme: internal, which need private ones only"
        )
    return f"{found}; the deployment needs private ones in two zones"


def _list(values: Any) -> str:
    return f"[{', '.join(values)}]"
