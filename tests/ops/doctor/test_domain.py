"""What doctor reports about the certificate, the hosted zone and CloudFront."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops.doctor import domain
from ops.doctor.domain import covers
from ops.report import Status
from tests.ops.scripted_aws import Answer, Refused, account

from .expectations import CERTIFICATE, expect


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
