"""What is below a prefix in S3, and a copy of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine_start import adapter_store
from engine_start.adapter_store import copy_adapter, stored_adapters
from engine_start.adapters import CONFIG, WEIGHTS
from engine_start.location import Location
from engine_start.settings import LaunchError

from .stored import PREFIX, put, remove

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_folders_directly_below_the_prefix_are_adapters(s3: S3Client) -> None:
    put(s3, "tone")
    put(s3, "sql", weights=b"w" * 100)
    put(s3, "deep/er")
    for key in ("tuned/README.md", "tuned/notes/README.md", "tuned/tone/optimizer.pt", "tuned/", "other/a"):
        s3.put_object(Bucket="weights", Key=key, Body=b"x")
    found = stored_adapters(s3, PREFIX)
    assert [one.name for one in found] == ["sql", "tone"]
    assert all(one.missing is None for one in found)
    assert found[0].size > 100
    assert [name for name, _ in found[1].etags] == [CONFIG, WEIGHTS]


def test_bucket_without_a_prefix(s3: S3Client) -> None:
    root = Location("weights", "")
    put(s3, "tone", prefix=root)
    assert [one.name for one in stored_adapters(s3, root)] == ["tone"]


def test_part_of_an_adapter_is_known_as_such(s3: S3Client) -> None:
    put(s3, "tone", weights=None)
    assert stored_adapters(s3, PREFIX)[0].missing == WEIGHTS
    put(s3, "tone")
    remove(s3, "tone", CONFIG)
    assert stored_adapters(s3, PREFIX)[0].missing == CONFIG


def test_prefix_with_too_many_objects(s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_store, "MOST_OBJECTS", 3)
    put(s3, "tone")
    assert stored_adapters(s3, PREFIX)
    put(s3, "sql")
    with pytest.raises(
        LaunchError, match=r"ADAPTERS_FROM='s3://weights/tuned': there are more than 3 objects"
    ):
        stored_adapters(s3, PREFIX)


def test_bucket_that_does_not_exist(s3: S3Client) -> None:
    with pytest.raises(LaunchError, match="ADAPTERS_FROM='s3://nowhere/x': the bucket does not exist"):
        stored_adapters(s3, Location("nowhere", "x"))


def test_copy_is_of_what_was_listed(s3: S3Client, tmp_path: Path) -> None:
    put(s3, "tone", weights=b"first")
    [listed] = stored_adapters(s3, PREFIX)
    copy_adapter(s3, PREFIX, listed, tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == b"first"
    assert (tmp_path / CONFIG).is_file()
    put(s3, "tone", weights=b"other")
    with pytest.raises(LaunchError, match="an object changed while it was read"):
        copy_adapter(s3, PREFIX, listed, tmp_path)
    remove(s3, "tone")
    with pytest.raises(LaunchError, match="an object disappeared"):
        copy_adapter(s3, PREFIX, listed, tmp_path)
