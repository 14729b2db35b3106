"""Doctor imports a deployment's own tools with the packages of the image."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from ops import image_packages
from ops.account import Failed
from ops.doctor.tools import check_tools
from ops.report import Status
from tests.ops.scripted_aws import account

ROOT = Path(__file__).parents[3]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """This interpreter has the packages of the image, and more."""
    monkeypatch.setattr(image_packages, "install", lambda _: Path(sys.executable))


def test_default_deployment_installs_nothing() -> None:
    (result,) = check_tools(account({}))
    assert result.status is Status.OK


@pytest.mark.usefixtures("installed")
def test_tools_that_load_are_reported() -> None:
    (result,) = check_tools(account({}, tools__directory="examples/tools", tools__modules=["shipping"]))
    assert (result.status, "shipping" in result.found) == (Status.OK, True)


@pytest.mark.usefixtures("installed")
def test_what_would_fail_is_reported_with_its_setting() -> None:
    (result,) = check_tools(account({}, tools__attach=["calculate_mth"]))
    assert result.status is Status.ERROR
    assert "tools.attach" in result.found
    assert "did you mean calculate_math?" in result.found
    assert result.fix == "correct tools.attach"


def test_missing_module_is_left_to_the_check_of_the_file() -> None:
    (result,) = check_tools(account({}, tools__modules=["no_such_module"]))
    assert result.status is Status.UNKNOWN


def test_packages_that_cannot_be_installed_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> Path:
        raise Failed("ERROR: Cannot install httpx==0.1 and httpx==0.28 because they conflict")

    monkeypatch.setattr(image_packages, "install", fail)
    (result,) = check_tools(account({}, tools__attach=["all"]))
    assert result.status is Status.ERROR
    assert "conflict" in result.found
    assert "make lock-tools" in (result.fix or "")


def test_module_that_ends_the_process_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_packages, "install", lambda _: Path(sys.executable))
    (ROOT / ".cache").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache") as directory:
        Path(directory, "crm.py").write_text("import os\nos._exit(4)\n")
        inside = str(Path(directory).relative_to(ROOT))
        (result,) = check_tools(account({}, tools__directory=inside, tools__modules=["crm"]))
    assert result.status is Status.ERROR
    assert "exit status 4" in result.found
