"""What the tests of doctor share: an expectation of a result, and the account that most of them describe."""

from __future__ import annotations

from ops.report import Result, Status
from tests.ops.scripted_aws import Answer, Refused

CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:name-AbCdEf"
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
