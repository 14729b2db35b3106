"""Adapters are copied from S3 or the Hub, and those that do not fit the model end the start with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine_start.adapter import Adapter
from engine_start.adapters import CONFIG, WEIGHTS, LocalAdapter, local_adapters, lora_flags
from engine_start.cache import cache_key
from engine_start.command_line import build_argv, load_models
from engine_start.location import Location
from engine_start.settings import LaunchError, Settings
from standin_engine.arguments import parse_options

from .test_mirror import COMMIT, MODEL, FakeHub, hub

__all__ = ["hub"]

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BASE = "Qwen/Qwen2.5-7B-Instruct"
SOURCE = Location("weights", "adapters/tone")


def put(s3: S3Client, source: Location = SOURCE, weights: bytes | None = b"weights", **changes: Any) -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": BASE, "r": 12, **changes}
    s3.put_object(Bucket=source.bucket, Key=source.key(CONFIG), Body=json.dumps(config).encode())
    if weights is not None:
        s3.put_object(Bucket=source.bucket, Key=source.key(WEIGHTS), Body=weights)


def settings(*sources: Location | str, **others: Any) -> Settings:
    names = ("tone", "sql", "legal", "brief", "long")
    return Settings(adapters=tuple(map(Adapter, names, sources)), **others)


def copied(s3: S3Client, directory: Path, given: Settings | None = None) -> list[LocalAdapter]:
    return local_adapters(given or settings(SOURCE), directory, lambda: s3, {})


def test_adapter_is_copied_and_named_on_the_command_line(s3: S3Client, tmp_path: Path) -> None:
    put(s3)
    adapters = copied(s3, tmp_path)
    assert (tmp_path / "tone" / WEIGHTS).read_bytes() == b"weights"
    argv = build_argv(settings(SOURCE), load_models(), adapters=adapters)
    module = json.dumps({"name": "tone", "path": str(tmp_path / "tone"), "base_model_name": BASE})
    at = argv.index("--enable-lora")
    assert argv[at : at + 7] == [
        "--enable-lora", "--max-lora-rank", "16", "--max-loras", "1", "--lora-modules", module
    ]  # fmt: skip
    assert parse_options(argv[2:], {}).served_names == (BASE, "tone")


def test_adapter_from_the_hub(hub: FakeHub, tmp_path: Path, s3: S3Client) -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": BASE, "r": 8}
    hub.files = {CONFIG: json.dumps(config).encode(), WEIGHTS: b"weights", "README.md": b"#"}
    environ = {"HUB_ADDRESS": hub.address}
    assert hub.listing()["sha"] == COMMIT
    (one,) = local_adapters(settings(MODEL), tmp_path, lambda: s3, environ)
    assert (one.rank, (one.path / WEIGHTS).read_bytes()) == (8, b"weights")
    assert [name for name, _, _ in hub.downloads] == [CONFIG, WEIGHTS]
    with pytest.raises(LaunchError, match="ADAPTERS='acme/two': acme/two: the Hub has no such model"):
        local_adapters(settings("acme/two"), tmp_path / "b", lambda: s3, environ)


def test_without_adapters_there_are_no_flags(s3: S3Client, tmp_path: Path) -> None:
    assert lora_flags(Settings(), copied(s3, tmp_path, Settings())) == []


def test_rank_and_number_can_be_set(s3: S3Client, tmp_path: Path) -> None:
    sources = [Location("weights", f"adapters/{number}") for number in range(5)]
    for source in sources:
        put(s3, source)
    given = settings(*sources, max_lora_rank=64, max_loras=2)
    flags = lora_flags(given, copied(s3, tmp_path / "a", given))
    assert flags[1:5] == ["--max-lora-rank", "64", "--max-loras", "2"]
    default = settings(*sources)
    assert lora_flags(default, copied(s3, tmp_path / "b", default))[3:5] == ["--max-loras", "4"]


def test_largest_rank_of_a_pattern_counts(s3: S3Client, tmp_path: Path) -> None:
    put(s3, rank_pattern={"q_proj": 40})
    assert copied(s3, tmp_path)[0].rank == 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_model_name_or_path": "Qwen/Qwen3-8B"}, "this engine serves 'Qwen/Qwen2.5-7B-Instruct'"),
        ({"peft_type": "IA3"}, "has peft_type 'IA3'; vLLM serves LORA only"),
        ({"r": "16"}, "has the rank '16'; it must be a whole number"),
        ({"r": 600}, "has rank 600, and the engine allows 512; train it with a lower rank"),
    ],
)
def test_adapter_that_does_not_fit(
    s3: S3Client, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    put(s3, **changes)
    with pytest.raises(LaunchError) as raised:
        copied(s3, tmp_path)
    assert str(raised.value).startswith("ADAPTERS: tone (s3://weights/adapters/tone): adapter_config.json ")
    assert message in str(raised.value)


def test_rank_above_the_setting(s3: S3Client, tmp_path: Path) -> None:
    put(s3, r=32)
    with pytest.raises(LaunchError, match="has rank 32, and the engine allows 16; set MAX_LORA_RANK to at"):
        copied(s3, tmp_path, settings(SOURCE, max_lora_rank=16))


def test_files_that_are_missing(s3: S3Client, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"adapters/tone': there is no adapter_config\.json; name the"):
        copied(s3, tmp_path / "a")
    put(s3, weights=None)
    with pytest.raises(LaunchError, match=r"there is no adapter_model\.safetensors"):
        copied(s3, tmp_path / "b")


def test_config_that_is_not_json(s3: S3Client, tmp_path: Path) -> None:
    put(s3)
    s3.put_object(Bucket="weights", Key=SOURCE.key(CONFIG), Body=b"{")
    with pytest.raises(LaunchError, match=r"adapter_config\.json is not JSON"):
        copied(s3, tmp_path)


def test_adapters_change_no_compiled_cache_but_their_sizes_do(tmp_path: Path) -> None:
    def key(*adapters: LocalAdapter) -> str:
        return cache_key(build_argv(Settings(), load_models(), adapters=adapters), image="i", gpu="g")

    one, other = LocalAdapter("tone", tmp_path / "a", 16), LocalAdapter("sql", tmp_path / "b", 16)
    assert key(one) == key(other)
    assert key(one) != key(LocalAdapter("tone", tmp_path / "a", 64))
    assert key(one) != key()
