"""Compares the account's quotas with what the deployment needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from ops.account import Account, code_of, translated
from ops.report import Result, Status

# https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html; in vCPU, by the first letters
# of the instance type.
_GPU_QUOTAS = {
    ("g", "on_demand"): ("L-DB2E81BA", "Running On-Demand G and VT instances"),
    ("g", "spot"): ("L-3819A6DF", "All G and VT Spot Instance Requests"),
    ("p", "on_demand"): ("L-417A185B", "Running On-Demand P instances"),
    ("p", "spot"): ("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests"),
}
_FARGATE_QUOTA = ("L-3032A538", "Fargate On-Demand vCPU resource count")
_VPC_QUOTA, _NAT_QUOTA, _EIP_QUOTA = "L-F678F1CE", "L-FE5A380F", "L-0263D0A3"


def check_gpu_quota(account: Account) -> list[Result]:
    """Checks the vCPU quota of the instance family: running instances plus this deployment's maximum."""
    wanted: Counter[tuple[str, str]] = Counter()
    for plan in account.plan.entries:
        for family in {one.name[0] for one in plan.instances}:
            most = max(one.vcpu for one in plan.instances if one.name[0] == family) * plan.instance_count
            wanted[family, plan.deployment.gpu.capacity] += most
    results = []
    for (family, capacity), most in sorted(wanted.items()):
        code, name = _GPU_QUOTAS[family, capacity]
        # Our own running instances are part of the maximum.
        others = sum(_vcpus(account, family, capacity, ours=False))
        results.append(
            _compare(account, "GPU quota", "ec2", code, name, used=others, needed=most, unit="vCPU")
        )
    return results


def _vcpus(account: Account, family: str, capacity: str, *, ours: bool) -> Iterator[int]:
    """Yields the vCPU of each running instance of the family, including this deployment's if `ours`."""
    pages = (
        account.client("ec2")
        .get_paginator("describe_instances")
        .paginate(Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}])
    )
    for page in pages:
        for reservation in page["Reservations"]:
            for instance in reservation["Instances"]:
                spot = instance.get("InstanceLifecycle") == "spot"
                tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
                is_ours = tags.get("aws:cloudformation:stack-name") == account.stack_names[1]
                wanted = instance["InstanceType"][0] == family and spot == (capacity == "spot")
                if wanted and (ours or not is_ours):
                    cpu = instance.get("CpuOptions", {})
                    yield cpu.get("CoreCount", 0) * cpu.get("ThreadsPerCore", 0)


def check_fargate_quota(account: Account) -> list[Result]:
    """vCPU of the orchestrator's tasks. A rollout runs twice the minimum; only scaling out needs the maximum.

    The default quota of a new account is 6 vCPU, which is what a rollout of the default deployment takes.
    """
    orchestrator = account.deployment.orchestrator
    per_task = orchestrator.cpu / 1024
    rollout, most = 2 * orchestrator.min_tasks * per_task, orchestrator.max_tasks * per_task
    code, name = _FARGATE_QUOTA
    quota = _quota(account, "fargate", code)
    request = _request(account, "fargate", code, max(rollout, most))
    if quota < rollout:
        found = f"{name}: {quota:g} vCPU; a rollout of {orchestrator.min_tasks} tasks needs {rollout:g}"
        return [Result(Status.ERROR, "Fargate quota", found, request)]
    if quota < most:
        tasks = int(quota // per_task)
        found = f"{name}: {quota:g} vCPU; the service can grow to {tasks} of {orchestrator.max_tasks} tasks"
        return [
            Result(Status.WARNING, "Fargate quota", found, f"{request}, or orchestrator.max_tasks: {tasks}")
        ]
    return [
        Result(Status.OK, "Fargate quota", f"{name}: {quota:g} vCPU, at most {max(rollout, most):g} needed")
    ]


def check_network_quotas(account: Account) -> list[Result]:
    """Checks VPCs, addresses and NAT gateways, if the deployment creates its own network."""
    network = account.deployment.network
    if network.existing_vpc is not None:
        return [Result(Status.OK, "network quotas", "not needed: an existing VPC is used")]
    if account.stack(account.stack_names[0]) is not None:
        return [Result(Status.OK, "network quotas", "not needed: the network exists already")]
    ec2 = account.client("ec2")
    gateways = {"none": 0, "one": 1, "per_zone": len(network.availability_zones) or network.zones}[
        network.nat
    ]
    vpcs, addresses = len(ec2.describe_vpcs()["Vpcs"]), len(ec2.describe_addresses()["Addresses"])
    subject = "network quotas"
    results = [
        _compare(account, subject, "vpc", _VPC_QUOTA, "VPCs per Region", used=vpcs, needed=1, unit="VPCs"),
        _compare(
            account,
            subject,
            "ec2",
            _EIP_QUOTA,
            "Elastic IPs",
            used=addresses,
            needed=gateways,
            unit="addresses",
        ),
    ]
    if gateways:
        name, used = "NAT gateways per Availability Zone", _most_gateways(ec2)
        results.append(
            _compare(account, subject, "vpc", _NAT_QUOTA, name, used=used, needed=1, unit="gateways")
        )
    return results


def _most_gateways(ec2: Any) -> int:
    """Returns the largest number of NAT gateways in any zone."""
    filters = [{"Name": "state", "Values": ["pending", "available"]}]
    subnets = [one["SubnetId"] for one in ec2.describe_nat_gateways(Filters=filters)["NatGateways"]]
    if not subnets:
        return 0
    zones = {
        one["SubnetId"]: one["AvailabilityZone"] for one in ec2.describe_subnets(SubnetIds=subnets)["Subnets"]
    }
    counts = [zones[subnet] for subnet in subnets]
    return max(counts.count(zone) for zone in counts)


def check_build_quota(account: Account) -> list[Result]:
    """Checks the number of concurrent builds. Found by name, since the quota's code differs by machine."""
    if account.deployment.images.build != "in_account":
        return [Result(Status.OK, "CodeBuild quota", "not needed: images are built on this machine")]
    quotas = (
        account.client("service-quotas")
        .get_paginator("list_service_quotas")
        .paginate(ServiceCode="codebuild")
    )
    arm = account.deployment.orchestrator.architecture == "arm64"
    wanted = {"linux/large", "arm/small" if arm else "linux/small"}
    results = []
    for page in quotas:
        for quota in page["Quotas"]:
            machine = next((one for one in wanted if f" {one} " in quota["QuotaName"].lower()), None)
            if machine and "concurrently running" in quota["QuotaName"].lower():
                results.append(_builds(account, quota))
    return results or [
        Result(Status.UNKNOWN, "CodeBuild quota", "AWS lists no quota for these machines", "none needed")
    ]


def _builds(account: Account, quota: Any) -> Result:
    name, value = quota["QuotaName"], quota["Value"]
    if value < 1:
        request = _request(account, "codebuild", quota["QuotaCode"], 1)
        return Result(Status.ERROR, "CodeBuild quota", f"{name}: {value:g}", request)
    return Result(Status.OK, "CodeBuild quota", f"{name}: {value:g}")


def _compare(
    account: Account,
    subject: str,
    service: str,
    code: str,
    name: str,
    *,
    used: float,
    needed: float,
    unit: str,
) -> Result:
    quota = _quota(account, service, code)
    found = f"{name}: {quota:g} {unit}, {used:g} used by others, {needed:g} needed"
    if quota < used + needed:
        return Result(Status.ERROR, subject, found, _request(account, service, code, used + needed))
    return Result(Status.OK, subject, found)


def _quota(account: Account, service: str, code: str) -> float:
    client = account.client("service-quotas")
    try:
        with translated():
            quota = client.get_service_quota(ServiceCode=service, QuotaCode=code)
    except ClientError as error:
        if code_of(error) != "NoSuchResourceException":
            raise
        quota = client.get_aws_default_service_quota(ServiceCode=service, QuotaCode=code)
    return float(quota["Quota"]["Value"])


def _request(account: Account, service: str, code: str, value: float) -> str:
    return (
        f"aws service-quotas request-service-quota-increase --region {account.region} "
        f"--service-code {service} --quota-code {code} --desired-value {value:g}"
    )
