"""Installing a lock file, with pip itself and packages that exist only here."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[2] / "examples" / "install.py"


def wheel(directory: Path, name: str) -> str:
    """Writes a package; returns its line of a lock file."""
    file = directory / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(
            f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


def install(directory: Path, lock: str) -> subprocess.CompletedProcess[str]:
    (directory / "lock.txt").write_text(lock)
    environment = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(directory)}
    command = [sys.executable, str(INSTALL), "lock.txt"]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def has(directory: Path, name: str) -> bool:
    command = [str(directory / ".venv/bin/python"), "-c", f"import {name}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


def test_first_set_and_then_another_are_both_there(project: Path) -> None:
    first = install(project, wheel(project, "first_set"))
    assert first.returncode == 0, first.stderr
    assert len(first.stderr.splitlines()) == 2
    assert "Installed 1 packages into .venv in" in first.stderr
    assert first.stdout == ""
    (project / ".venv" / "kept").touch()
    assert install(project, wheel(project, "second_set")).returncode == 0
    assert has(project, "first_set")
    assert has(project, "second_set")
    assert (project / ".venv" / "kept").exists()


def test_package_whose_hash_is_wrong_is_reported_and_not_installed(project: Path) -> None:
    line = wheel(project, "tampered")
    wrong = install(project, line[:-5] + "0000\n")
    assert wrong.returncode == 1
    assert "DO NOT MATCH THE HASHES" in wrong.stderr
    assert "pip could not install lock.txt" in wrong.stderr
    assert not has(project, "tampered")
