"""Compiled caches in S3: restored with the same key only, never half; they never make a start fail."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine_start.cache import EngineCache, cache_key, gpu_name
from engine_start.location import Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ARGV = ["vllm", "serve", "m", "--port", "8000", "--max-model-len", "4096"]
GRAPH = "torch_compile_cache/abc/rank_0_0/graph.bin"


def compiled(root: Path, text: str = "compiled") -> Path:
    """Puts what a start would compile into a cache directory."""
    path = root / GRAPH
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    (root / "assets").mkdir(exist_ok=True)
    (root / "assets" / "config.json").write_text("{}")
    return root


@pytest.fixture
def first(s3: S3Client, location: Location, tmp_path: Path) -> EngineCache:
    """A cache that has been saved."""
    cache = EngineCache(location, "key", compiled(tmp_path / "first"))
    assert cache.save({"compile": 20.5}).startswith("saved ")
    return cache


def test_next_instance_has_the_graphs_and_the_seconds_of_the_last_start(
    first: EngineCache, location: Location, tmp_path: Path
) -> None:
    root = tmp_path / "second"
    second = EngineCache(location, "key", root)
    assert second.restore().startswith("restored ")
    assert (root / GRAPH).read_text() == "compiled"
    assert not (root / "assets").exists()
    assert second.last_seconds() == {"compile": 20.5}
    assert second.save({"compile": 3}) == "unchanged"
    assert second.last_seconds() == {"compile": 3}


def test_start_that_compiles_more_is_saved_again(
    first: EngineCache, location: Location, tmp_path: Path
) -> None:
    second = EngineCache(location, "key", tmp_path / "second")
    second.restore()
    (tmp_path / "second" / GRAPH).with_name("more.bin").write_text("more")
    assert second.save({}).startswith("saved ")
    third = EngineCache(location, "key", tmp_path / "third")
    third.restore()
    assert (tmp_path / "third" / GRAPH).with_name("more.bin").read_text() == "more"


def test_same_disk_needs_no_restore(first: EngineCache, location: Location, tmp_path: Path) -> None:
    assert EngineCache(location, "key", tmp_path / "first").restore() == "this disk has them"


def test_other_key_has_no_caches(first: EngineCache, location: Location, tmp_path: Path) -> None:
    other = EngineCache(location, "other", tmp_path / "second")
    assert other.restore() == "none yet"
    assert other.last_seconds() == {}


def test_damaged_archive_is_not_unpacked(
    first: EngineCache, s3: S3Client, location: Location, tmp_path: Path
) -> None:
    key = location.key("key.tar")
    body = s3.get_object(Bucket=location.bucket, Key=key)["Body"].read()
    s3.put_object(Bucket=location.bucket, Key=key, Body=body[:-2000], Metadata={"sha256": "0" * 64})
    second = EngineCache(location, "key", tmp_path / "second")
    assert "is damaged" in second.restore()
    assert not (tmp_path / "second" / GRAPH).exists()


def test_archive_cannot_write_outside_of_its_directory(
    s3: S3Client, location: Location, tmp_path: Path
) -> None:
    import hashlib

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../outside"), io.BytesIO(b""))
    body = packed.getvalue()
    s3.put_object(
        Bucket=location.bucket,
        Key=location.key("key.tar"),
        Body=body,
        Metadata={"sha256": hashlib.sha256(body).hexdigest()},
    )
    assert "not restored" in EngineCache(location, "key", tmp_path / "root").restore()
    assert not (tmp_path / "outside").exists()


def test_s3_out_of_reach_costs_only_time(
    aws: str, location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    cache = EngineCache(location, "key", compiled(tmp_path / "root"))
    assert "S3 cannot be reached" in cache.restore()
    assert "S3 cannot be reached" in cache.save({})
    assert cache.last_seconds() == {}


def test_key_holds_what_invalidates_a_cache() -> None:
    key = cache_key(ARGV, image="sha256:a", gpu="NVIDIA A10G, 580.1")
    assert cache_key([*ARGV[:4], "9000", *ARGV[5:]], image="sha256:a", gpu="NVIDIA A10G, 580.1") == key
    for argv, image, gpu in (
        ([*ARGV[:-1], "8192"], "sha256:a", "NVIDIA A10G, 580.1"),
        (["vllm", "serve", "other", *ARGV[3:]], "sha256:a", "NVIDIA A10G, 580.1"),
        (ARGV, "sha256:b", "NVIDIA A10G, 580.1"),
        (ARGV, "sha256:a", "NVIDIA L4, 580.1"),
        (ARGV, "sha256:a", "NVIDIA A10G, 590.0"),
    ):
        assert cache_key(argv, image=image, gpu=gpu) != key


def test_gpu_is_named_by_nvidias_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA A10G, 580.95.05'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert gpu_name() == "NVIDIA A10G, 580.95.05"
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert gpu_name()
