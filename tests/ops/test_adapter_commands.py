"""`make adapters`: what it prints, as text and as JSON, and its exit statuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import ops.__main__ as commands
from ops import command_line
from ops.account import NoAccess

from .test_adapters import save

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def file(tmp_path: Path, s3: S3Client) -> Path:
    """A deployment file whose model has a prefix, in a bucket that exists."""
    path = tmp_path / "tandem.yaml"
    path.write_text("region: us-east-1\nmodel:\n  adapters_from: s3://acme-adapters/later\n")
    return path


def run(file: Path, *arguments: str) -> Any:
    environ = {"COLUMNS": "100", "DEPLOYMENT": str(file)}
    return CliRunner().invoke(commands.app, ["adapters", *arguments], env=environ)


def test_add_list_and_remove(file: Path, tmp_path: Path) -> None:
    assert "There are no adapters below s3://acme-adapters/later." in run(file, "list").stderr
    added = run(file, "add", "tone", save(tmp_path / "a", weights=b"w" * 2_500_000))
    assert added.exit_code == 0
    assert "tone (rank 8) is in s3://acme-adapters/later/tone. The engines of Qwen/Qwen2.5-7B" in added.stderr
    lines = run(file, "list").stdout.splitlines()
    assert lines[0].split() == ["name", "state", "rank", "MB", "changed", "(UTC)"]
    assert lines[1].split()[:4] == ["tone", "complete", "8", "2.5"]
    assert "requests for it get a 404" in run(file, "remove", "tone").stderr
    assert run(file, "list").stdout == ""


def test_json_is_one_value(file: Path, tmp_path: Path, s3: S3Client) -> None:
    model = "Qwen/Qwen2.5-7B-Instruct"
    added = run(file, "add", "tone", save(tmp_path / "a"), "--json")
    assert json.loads(added.stdout) == {"name": "tone", "model": model, "rank": 8}
    s3.put_object(Bucket="acme-adapters", Key="later/half/adapter_config.json", Body=b"{}")
    half, tone = json.loads(run(file, "list", "--json").stdout)
    assert (half["state"], half["reason"]) == ("incomplete", "there is no adapter_model.safetensors")
    assert (tone["name"], tone["rank"], tone["state"]) == ("tone", 8, "complete")
    assert json.loads(run(file, "remove", "tone", "--json").stdout) == {"name": "tone", "model": model}
    failed = run(file, "remove", "tone", "--json")
    assert failed.exit_code == 1
    assert "there is no adapter 'tone'" in json.loads(failed.stdout)["error"]


def test_reasons_are_below_the_table(file: Path, s3: S3Client) -> None:
    s3.put_object(Bucket="acme-adapters", Key="later/half/adapter_config.json", Body=b"{}")
    assert "half: there is no adapter_model.safetensors" in run(file, "list").stderr


@pytest.mark.parametrize("arguments", [("add", "tone", "directory"), ("remove", "tone")])
def test_nothing_is_changed_before_the_account_is_known(
    file: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    def without_region(*_: Any) -> Any:
        raise NoAccess("no region is set")

    monkeypatch.setattr(command_line, "Account", without_region)
    result = run(file, *arguments, "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {"error": "no region is set\nNothing was changed."}


def test_model_without_a_prefix(tmp_path: Path, file: Path) -> None:
    file.write_text("region: us-east-1\n")
    result = run(file, "list")
    assert result.exit_code == 1
    assert "the model has no adapters_from; set it to s3://bucket/prefix" in result.stderr


@pytest.mark.parametrize("value", ["s3:///later", "later", "s3://Acme/later"])
def test_prefix_without_a_bucket_is_found_in_the_file(file: Path, value: str) -> None:
    file.write_text(f"region: us-east-1\nmodel:\n  adapters_from: {value}\n")
    result = run(file, "list")
    assert result.exit_code == 2
    assert (
        f"tandem.yaml:3: model.adapters_from: '{value}': must look like s3://bucket/prefix" in result.stderr
    )
