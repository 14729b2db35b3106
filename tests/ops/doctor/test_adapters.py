"""The prefixes of adapters are checked, and what engines leave out is reported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ops.doctor import AFTER, BEFORE
from ops.doctor.adapters import check_adapters
from ops.report import Status

from ..test_adapters import SMALL, account, save

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def put(s3: S3Client, directory: str, key: str) -> None:
    for file in Path(directory).iterdir():
        s3.upload_file(str(file), "acme-adapters", f"{key}/{file.name}")


def test_it_is_checked_before_and_after_a_deployment() -> None:
    for checks in (BEFORE, AFTER):
        assert check_adapters in [one.run for one in checks]


def test_model_without_a_prefix_is_not_checked(s3: S3Client) -> None:
    assert [one.found for one in check_adapters(account(model={}))] == ["no model has adapters_from"]


def test_adapters_that_engines_leave_out_are_reported(s3: S3Client, tmp_path: Path) -> None:
    put(s3, save(tmp_path / "a"), "later/tone")
    put(s3, save(tmp_path / "b", r=64), "later/big")
    complete, big = check_adapters(account())
    assert (complete.status, complete.found) == (Status.OK, "1 complete in s3://acme-adapters/later")
    assert big.status is Status.WARNING
    assert big.found.startswith("big is rejected: adapter_config.json: the rank is 64")
    assert big.fix == 'make adapters ARGS="remove big", or add it again'


def test_each_model_has_its_own_prefix(s3: S3Client) -> None:
    two = account(models={"main": {"adapters_from": "s3://acme-adapters/main"}, "small": SMALL})
    assert [one.found for one in check_adapters(two)] == [
        "0 complete in s3://acme-adapters/main", "0 complete in s3://acme-adapters/small"
    ]  # fmt: skip


def test_bucket_that_does_not_exist(s3: S3Client) -> None:
    [result] = check_adapters(account(model={"adapters_from": "s3://no-such-bucket/later"}))
    assert result.status is Status.ERROR
    assert "the bucket no-such-bucket does not exist" in result.found
    assert result.fix == "aws s3 mb s3://no-such-bucket --region us-east-1"
