"""Doctor runs every check: one that fails or lacks a permission does not stop the others."""

from __future__ import annotations

from ops.doctor import BEFORE, run
from ops.report import Status
from tests.ops.scripted_aws import account

from .expectations import CERTIFICATE, SECRET, VPC

OF_THE_FILE = ("tools", "tool connections", "permissions", "adapters")
"""They ask AWS nothing unless the file names something."""


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
        if name not in ("deployment file", "existing VPC", "CloudFront", *OF_THE_FILE)
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
