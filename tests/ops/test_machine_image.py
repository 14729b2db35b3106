"""Deploying records the machine image in the deployment file."""

from __future__ import annotations

from pathlib import Path

from infra.deployment.file import load_deployment
from ops.machine_image import pin
from tests.ops.machine_image_answers import NEWEST, NEWEST_NAME, parameters
from tests.ops.scripted_aws import account


def test_recommended_image_is_recorded(tmp_path: Path) -> None:
    file = tmp_path / "tandem.yaml"
    file.write_text("gpu:\n  ami: recommended  # Machine image\n  replicas: 2  # two\n")
    pin(account(parameters()), file)
    assert file.read_text() == f"gpu:\n  ami: {NEWEST}  # {NEWEST_NAME} in us-east-1\n  replicas: 2  # two\n"
    assert load_deployment(file).gpu.ami == NEWEST


def test_pinned_image_stays(tmp_path: Path) -> None:
    file = tmp_path / "tandem.yaml"
    file.write_text("gpu: {ami: ami-0fedcba9876543210}\n")
    pin(account({}, gpu__ami="ami-0fedcba9876543210"), file)
    assert file.read_text() == "gpu: {ami: ami-0fedcba9876543210}\n"
