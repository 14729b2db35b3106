"""Directories of an instance, made on this machine as the deployed user data makes them."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.containers.engine import Engine

from .emulator import Emulator

_INSTALLS = re.compile(r"^install --directory .+$", re.MULTILINE)


@contextmanager
def host_directories(engine: Engine, image: str, emulator: Emulator, hosts: Path) -> Iterator[None]:
    """Makes them below `hosts` with their owners, and removes what containers wrote there.

    A container with `image` does both, since only root may give files to another user.
    """
    lines = _INSTALLS.findall(_user_data(emulator))
    assert lines, "the deployed user data makes no directory (install --directory ...)"
    _shell(engine, image, hosts, "\n".join(["set -e", *lines]))
    try:
        yield
    finally:
        _shell(engine, image, hosts, "rm -rf /mnt/*")


def _user_data(emulator: Emulator) -> str:
    ec2: Any = emulator.client("ec2")
    (template,) = ec2.describe_launch_templates()["LaunchTemplates"]
    versions = ec2.describe_launch_template_versions(LaunchTemplateId=template["LaunchTemplateId"])
    newest = max(versions["LaunchTemplateVersions"], key=lambda version: int(version["VersionNumber"]))
    return base64.b64decode(newest["LaunchTemplateData"]["UserData"]).decode()


def _shell(engine: Engine, image: str, hosts: Path, script: str) -> None:
    engine.docker(
        "run",
        "--rm",
        "--user",
        "0",
        "--volume",
        f"{hosts}/mnt:/mnt",
        "--entrypoint",
        "sh",
        image,
        "-c",
        script,
    )
