"""What doctor reports before a deployment: each check with and without problems."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops.doctor import BEFORE, domain, identity, network, quotas, run, stacks
from ops.doctor.domain import covers
from ops.report import Result, Status
from tests.ops.scripted_aws import ARN, Answer, Refused, account, roles_without

CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:name-AbCdEf"
IDENTITY: dict[str, Answer] = {
    "sts.GetCallerIdentity": {"UserId": "u", "Account": "123456789012", "Arn": ARN},
}
NO_STACKS: dict[str, Answer] = {
    "cloudformation.DescribeStacks": Refused("ValidationError", "Stack with id x does not exist"),
}
VPC = {
    "vpc_id": "vpc-0123456789abcdef0",
    "cidr": "10.1.0.0/16",
    "availability_zones": ("us-east-1a", "us-east-1b"),
    "private_subnet_ids": ("subnet-0000000000000000a", "subnet-0000000000000000b"),
    "public_subnet_ids": ("subnet-0000000000000000c", "subnet-0000000000000000d"),
}


def expect(result: Result, mark: Status, found: str, fix: str = "") -> None:
    assert result.status is mark, result
    assert found in result.found, result
    assert fix in (result.fix or ""), result
    if mark in (Status.ERROR, Status.WARNING):
        assert result.fix, result


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


def test_file_is_checked_as_in_synthesis() -> None:
    (vcpu,) = identity.check_file(account({}))
    expect(vcpu, Status.WARNING, "4 vCPU", "gpu.instance_types")
    results = identity.check_file(account({}, model__max_model_len=40_000))
    assert any(result.status is Status.ERROR and "model.max_model_len" in result.found for result in results)


def test_identity_is_reported() -> None:
    expect(identity.check_identity(account(IDENTITY))[0], Status.OK, ARN)


@pytest.mark.parametrize(
    ("version", "mark", "found"),
    [
        ("31", Status.OK, "version 31"),
        ("5", Status.ERROR, "version 5; at least 6"),
        (None, Status.ERROR, "not bootstrapped"),
    ],
)
def test_bootstrap(version: str | None, mark: Status, found: str) -> None:
    answer: Answer = {"Parameter": {"Value": version}} if version else Refused("ParameterNotFound")
    (result,) = identity.check_bootstrap(account({**IDENTITY, "ssm.GetParameter": answer}))
    expect(result, mark, found, "" if mark is Status.OK else "npx cdk bootstrap aws://123456789012/us-east-1")


@pytest.mark.parametrize(
    ("answer", "mark", "found", "fix"),
    [
        ({"Name": "token"}, Status.OK, "token", ""),
        (Refused("ResourceNotFoundException"), Status.ERROR, "does not exist", "create-secret"),
        (
            {"Name": "token", "DeletedDate": datetime.now(UTC)},
            Status.ERROR,
            "being deleted",
            "restore-secret",
        ),
    ],
)
def test_secrets(answer: Answer, mark: Status, found: str, fix: str) -> None:
    one = account({"secretsmanager.DescribeSecret": answer}, model__hf_token_secret_arn=SECRET)
    expect(identity.check_secrets(one)[0], mark, found, fix)
    assert identity.check_secrets(account({}))[0].status is Status.OK


@pytest.mark.parametrize(
    ("status", "mark", "fix"),
    [
        ("CREATE_COMPLETE", Status.OK, ""),
        ("UPDATE_ROLLBACK_COMPLETE", Status.WARNING, "describe-stack-events"),
        ("UPDATE_IN_PROGRESS", Status.WARNING, "wait"),
        ("ROLLBACK_COMPLETE", Status.ERROR, "make destroy"),
        ("ROLLBACK_FAILED", Status.ERROR, "make destroy"),
        ("REVIEW_IN_PROGRESS", Status.ERROR, "delete-stack --stack-name tandem-foundation"),
        ("UPDATE_ROLLBACK_FAILED", Status.ERROR, "continue-update-rollback --stack-name tandem-foundation"),
        ("DELETE_FAILED", Status.ERROR, "make destroy"),
    ],
)
def test_stacks_of_an_earlier_attempt(status: str, mark: Status, fix: str) -> None:
    stack = {"StackName": "tandem-foundation", "StackStatus": status, "Description": "Tandem: x",
             "CreationTime": datetime.now(UTC), "StackStatusReason": "because"}  # fmt: skip
    result = stacks.check_stacks(account({"cloudformation.DescribeStacks": {"Stacks": [stack]}}))[0]
    expect(result, mark, status, fix)


def test_stack_of_another_application_and_none_at_all() -> None:
    stack = {"StackName": "tandem-foundation", "StackStatus": "CREATE_COMPLETE", "Description": "A shop",
             "CreationTime": datetime.now(UTC)}  # fmt: skip
    result = stacks.check_stacks(account({"cloudformation.DescribeStacks": {"Stacks": [stack]}}))[0]
    expect(result, Status.ERROR, "another application (A shop)", "another name")
    assert [one.status for one in stacks.check_stacks(account(NO_STACKS))] == [Status.OK, Status.OK]


FREE: dict[str, Answer] = {
    **NO_STACKS,
    "ecr.DescribeRepositories": Refused("RepositoryNotFoundException"),
    "ssm.GetParameter": Refused("ParameterNotFound"),
    "servicediscovery.ListNamespaces": {"Namespaces": []},
}


@pytest.mark.parametrize(
    ("taken", "mark", "found", "fix"),
    [
        ({}, Status.OK, "all available", ""),
        ({"ecr.DescribeRepositories": {"repositories": []}}, Status.ERROR, "tandem/orch", "ecr delete"),
        ({"ssm.GetParameter": {"Parameter": {"Value": "x"}}}, Status.ERROR, "/tandem/cert", "delete-param"),
        (
            {"servicediscovery.ListNamespaces": {"Namespaces": [{"Name": "tandem.internal"}]}},
            Status.WARNING, "tandem.internal", "another name",
        ),
    ],
)  # fmt: skip
def test_names(taken: dict[str, Answer], mark: Status, found: str, fix: str) -> None:
    expect(stacks.check_names(account({**FREE, **taken}))[0], mark, found, fix)


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


def test_service_roles_that_do_not_exist_are_reported_with_the_command() -> None:
    absent = "AWSServiceRoleForECS"
    (result,) = identity.check_service_roles(account({"iam.GetRole": roles_without(absent)}))
    expect(result, Status.WARNING, absent, "create-service-linked-role --aws-service-name ecs.amazonaws.com")
    (all_there,) = identity.check_service_roles(account({"iam.GetRole": roles_without()}))
    assert all_there.status is Status.OK


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


def certificate(status: str = "ISSUED", name: str = "api.example.com", days: int = 200) -> dict[str, Answer]:
    described = {
        "DomainName": name,
        "Status": status,
        "NotAfter": datetime.now(UTC) + timedelta(days=days, hours=1),
    }
    return {"acm.DescribeCertificate": {"Certificate": described}}


@pytest.mark.parametrize(
    ("answers", "mark", "found", "fix"),
    [
        (certificate(), Status.OK, "issued", ""),
        (certificate(status="PENDING_VALIDATION"), Status.ERROR, "PENDING_VALIDATION", "CNAME"),
        (
            certificate(name="other.example.com"),
            Status.ERROR,
            "not for api.example.com",
            "--domain-name api.example.com",
        ),
        (certificate(name="*.example.com"), Status.OK, "issued", ""),
        (certificate(days=3), Status.WARNING, "expires in 3 days", "renewed"),
        (
            {"acm.DescribeCertificate": Refused("ResourceNotFoundException")},
            Status.ERROR,
            "does not exist",
            "acm",
        ),
    ],
)
def test_certificate(answers: dict[str, Answer], mark: Status, found: str, fix: str) -> None:
    one = account(answers, ingress__certificate_arn=CERTIFICATE, ingress__domain="api.example.com")
    expect(domain.check_certificate(one)[0], mark, found, fix)


def test_certificate_that_is_not_set_or_in_another_region() -> None:
    one = account({}, ingress__domain="api.example.com")
    expect(domain.check_certificate(one)[0], Status.ERROR, "none is set", "--certificate ARN")
    one.certificate = CERTIFICATE.replace("us-east-1", "eu-west-1")
    expect(domain.check_certificate(one)[0], Status.ERROR, "is in eu-west-1", "--region us-east-1")
    assert domain.check_certificate(account({}, ingress__cloudfront=True))[0].status is Status.OK


def test_certificate_without_a_domain() -> None:
    one = account(certificate())
    one.certificate = CERTIFICATE
    expect(domain.check_certificate(one)[0], Status.ERROR, "without a domain", "ingress.cloudfront: true")


def test_certificate_names_are_compared_with_the_domain_of_the_command_line_too() -> None:
    one = account(certificate(name="other.example.com"), ingress__domain="api.example.com")
    one.certificate = CERTIFICATE
    expect(domain.check_certificate(one)[0], Status.ERROR, "not for api.example.com", "request-certificate")


def test_pending_certificate_names_the_record_that_validates_it() -> None:
    record = {"Name": "_a1.api.example.com.", "Type": "CNAME", "Value": "_b2.acm-validations.aws."}
    answers: Any = certificate(status="PENDING_VALIDATION")
    option = {"DomainName": "api.example.com", "ResourceRecord": record}
    answers["acm.DescribeCertificate"]["Certificate"]["DomainValidationOptions"] = [option]
    one = account(answers, ingress__certificate_arn=CERTIFICATE, ingress__domain="api.example.com")
    fix = "_a1.api.example.com. CNAME _b2.acm-validations.aws."
    expect(domain.check_certificate(one)[0], Status.ERROR, "PENDING_VALIDATION", fix)


def distributions(count: int) -> dict[str, Answer]:
    listed = {"Marker": "", "MaxItems": 1, "IsTruncated": False, "Quantity": count}
    return {"cloudfront.ListDistributions": {"DistributionList": listed}}


@pytest.mark.parametrize(
    ("answers", "settings", "mark", "found", "fix"),
    [
        ({}, {}, Status.OK, "not used", ""),
        (distributions(1), {"ingress__cloudfront": True}, Status.OK, "used it before", ""),
        (
            distributions(0),
            {"ingress__cloudfront": True},
            Status.WARNING,
            "must be verified",
            "ingress.domain with a certificate",
        ),
    ],
)
def test_cloudfront(
    answers: dict[str, Answer], settings: dict[str, Any], mark: Status, found: str, fix: str
) -> None:
    expect(domain.check_cloudfront(account(answers, **settings))[0], mark, found, fix)


@pytest.mark.parametrize(
    ("name", "host", "fits"),
    [
        ("a.example.com", "A.example.com", True), ("*.example.com", "a.example.com", True),
        ("*.example.com", "b.a.example.com", False), ("*.example.com", "example.com", False),
        ("example.com", "a.example.com", False),
    ],
)  # fmt: skip
def test_wildcards_cover_one_label(name: str, host: str, fits: bool) -> None:
    assert covers(name, host) == fits


@pytest.mark.parametrize(
    ("zone", "mark", "found", "fix"),
    [
        ({"Name": "example.com."}, Status.OK, "example.com contains api.example.com", ""),
        ({"Name": "example.org."}, Status.ERROR, "is the zone example.org", "ingress.domain"),
        (
            {"Name": "example.com.", "Config": {"PrivateZone": True}},
            Status.ERROR,
            "private zone",
            "public zone",
        ),
        (None, Status.ERROR, "Z0123456789 does not exist", "list-hosted-zones"),
    ],
)
def test_hosted_zone(zone: dict[str, Any] | None, mark: Status, found: str, fix: str) -> None:
    answer: Answer = Refused("NoSuchHostedZone")
    if zone:
        answer = {"HostedZone": {"Id": "Z0123456789", "CallerReference": "x", **zone}}
    one = account(
        {"route53.GetHostedZone": answer},
        ingress__domain="api.example.com",
        ingress__hosted_zone_id="Z0123456789",
    )
    expect(domain.check_zone(one)[0], mark, found, fix)
    assert domain.check_zone(account({}))[0].status is Status.OK


def test_missing_permission_is_reported_and_does_not_stop_other_checks() -> None:
    one = account(
        {},
        ingress__certificate_arn=CERTIFICATE,
        ingress__domain="api.example.com",
        ingress__hosted_zone_id="Z0123456789",
        model__hf_token_secret_arn=SECRET,
    )
    results = run(BEFORE, one)
    by_subject = {result.subject: result for result in results}
    assert {
        result.status
        for name, result in by_subject.items()
        if name not in ("deployment file", "existing VPC", "CloudFront")
    } == {Status.UNKNOWN}
    for result in results:
        if result.status is Status.UNKNOWN:
            assert "no permission for" in result.found
            assert "allow" in (result.fix or "")
    for subject, settings in (
        ("existing VPC", {"network__existing_vpc": VPC}),
        ("CloudFront", {"ingress__cloudfront": True}),
    ):
        (result,) = run([check for check in BEFORE if check.subject == subject], account({}, **settings))
        assert result.status is Status.UNKNOWN
