"""What doctor reports about quotas: each with and without problems."""

from __future__ import annotations

from typing import Any

import pytest

from ops.doctor import quotas
from ops.report import Status
from tests.ops.scripted_aws import Answer, Refused, account

from .expectations import NO_STACKS, VPC, expect


def quota(value: float, **by_code: float) -> dict[str, Answer]:
    def answer(params: Any) -> Any:
        code = params["QuotaCode"]
        return {"Quota": {"QuotaCode": code, "Value": by_code.get(code.replace("-", "_"), value)}}

    return {"service-quotas.GetServiceQuota": answer}


def instances(*rows: tuple[str, int, str | None, str]) -> dict[str, Answer]:
    """Builds running instances from type, vCPU, life cycle and stack."""
    described = [
        {
            "InstanceType": kind,
            "CpuOptions": {"CoreCount": vcpu // 2, "ThreadsPerCore": 2},
            "Tags": [{"Key": "aws:cloudformation:stack-name", "Value": stack}],
            **({"InstanceLifecycle": life} if life else {}),
        }
        for kind, vcpu, life, stack in rows
    ]
    return {"ec2.DescribeInstances": {"Reservations": [{"Instances": described}]}}


@pytest.mark.parametrize(
    ("value", "running", "capacity", "mark"),
    [
        (4, [], "on_demand", Status.OK),
        (0, [], "on_demand", Status.ERROR),
        (4, [("g5.xlarge", 4, None, "another")], "on_demand", Status.ERROR),
        (8, [("g5.xlarge", 4, None, "another")], "on_demand", Status.OK),
        (4, [("g5.xlarge", 4, None, "tandem-serving")], "on_demand", Status.OK),
        (4, [("g5.xlarge", 4, "spot", "another"), ("m5.large", 2, None, "another")], "on_demand", Status.OK),
        (4, [("g5.xlarge", 4, "spot", "another")], "spot", Status.ERROR),
    ],
)
def test_gpu_quota(value: float, running: list[Any], capacity: str, mark: Status) -> None:
    answers = {**instances(*running), **quota(value)}
    (result,) = quotas.check_gpu_quota(account(answers, gpu__capacity=capacity))
    code = "L-DB2E81BA" if capacity == "on_demand" else "L-3819A6DF"
    fix = f"request-service-quota-increase --region us-east-1 --service-code ec2 --quota-code {code}"
    expect(result, mark, f"{value:g} vCPU", fix if mark is Status.ERROR else "")
    if value == 4 and mark is Status.ERROR:
        assert "--desired-value 8" in (result.fix or "")


def test_quota_that_was_never_raised_has_the_default_value() -> None:
    answers: dict[str, Answer] = {
        **instances(),
        "service-quotas.GetServiceQuota": Refused("NoSuchResourceException"),
        "service-quotas.GetAWSDefaultServiceQuota": {"Quota": {"Value": 0.0}},
    }
    expect(quotas.check_gpu_quota(account(answers))[0], Status.ERROR, "0 vCPU", "--desired-value 4")


@pytest.mark.parametrize(
    ("value", "mark", "found", "fix"),
    [
        (10, Status.OK, "at most 10 needed", ""),
        (6, Status.WARNING, "can grow to 6 of 10 tasks", "orchestrator.max_tasks: 6"),
        (5, Status.ERROR, "a rollout of 3 tasks needs 6", "--service-code fargate"),
    ],
)
def test_fargate_quota(value: float, mark: Status, found: str, fix: str) -> None:
    (result,) = quotas.check_fargate_quota(account(quota(value)))
    expect(result, mark, found, fix)


def test_network_quotas() -> None:
    gateway = {"SubnetId": "subnet-0000000000000000a", "NatGatewayId": "nat-1"}
    answers: dict[str, Answer] = {
        **NO_STACKS,
        "ec2.DescribeVpcs": {"Vpcs": [{"VpcId": "vpc-1"}] * 5},
        "ec2.DescribeAddresses": {"Addresses": [{"PublicIp": "192.0.2.1"}] * 4},
        "ec2.DescribeNatGateways": {"NatGateways": [gateway] * 5},
        "ec2.DescribeSubnets": {
            "Subnets": [{"SubnetId": gateway["SubnetId"], "AvailabilityZone": "us-east-1a"}]
        },
    }
    vpcs, addresses, gateways = quotas.check_network_quotas(account({**answers, **quota(5)}))
    expect(vpcs, Status.ERROR, "5 VPCs, 5 used", "--quota-code L-F678F1CE --desired-value 6")
    expect(addresses, Status.OK, "4 used by others, 1 needed")
    expect(gateways, Status.ERROR, "5 used", "L-FE5A380F")
    enough = quotas.check_network_quotas(account({**answers, **quota(10)}))
    assert {result.status for result in enough} == {Status.OK}
    per_zone = quotas.check_network_quotas(account({**answers, **quota(5)}, network__nat="per_zone"))
    expect(per_zone[1], Status.ERROR, "2 needed", "L-0263D0A3")
    (existing,) = quotas.check_network_quotas(account({}, network__existing_vpc=VPC))
    assert existing.status is Status.OK


@pytest.mark.parametrize(("value", "mark"), [(1.0, Status.OK), (0.0, Status.ERROR)])
def test_build_quota(value: float, mark: Status) -> None:
    listed = [
        {
            "QuotaName": f"Concurrently running builds for {one} environment",
            "QuotaCode": "L-1",
            "Value": value,
        }
        for one in ("Linux/Large", "Linux/Small", "Linux/Medium", "ARM/Small")
    ]
    answers: dict[str, Answer] = {"service-quotas.ListServiceQuotas": {"Quotas": listed}}
    results = quotas.check_build_quota(account(answers))
    assert len(results) == 2
    for result in results:
        expect(result, mark, "Linux/", "" if mark is Status.OK else "--service-code codebuild")
    none = quotas.check_build_quota(account({"service-quotas.ListServiceQuotas": {"Quotas": []}}))
    assert none[0].status is Status.UNKNOWN
