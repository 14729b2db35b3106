"""What the make targets install, and what they leave alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = {
    "demo": "examples/requirements.txt",
    "operator": "ops/requirements.txt",
    "developer": "requirements.txt",
}
OPERATOR_TARGETS = (
    "synth", "doctor", "deploy", "smoke", "keys", "adapters", "cost", "destroy", "logs", "rollback",
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with the Makefile in which everything is installed."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").touch()
    (tmp_path / "node_modules").mkdir()
    for name in (*LOCKS.values(), "package-lock.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    for name in (*(f".venv/{name}" for name in LOCKS), "node_modules/.package-lock.json"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (2, 2))
    return tmp_path


def make(project: Path, *arguments: str, **variables: str) -> str:
    """Runs make as a person would, even if make runs the tests, and returns what it prints."""
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"}
    made = subprocess.run(
        ["make", *arguments],
        cwd=project,
        env={name: value for name, value in os.environ.items() if name not in outer} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout


def commands(project: Path, *arguments: str, **variables: str) -> str:
    """Returns the commands that make would run."""
    return make(project, "-n", *arguments, **variables)


def change(project: Path, lock: str) -> None:
    os.utime(project / LOCKS[lock], (3, 3))


@pytest.mark.parametrize("target", ["demo", "up", *OPERATOR_TARGETS, "test", "check"])
def test_nothing_is_installed_twice(project: Path, target: str) -> None:
    assert "install" not in commands(project, target)


@pytest.mark.parametrize("lock", LOCKS)
def test_down_never_installs(project: Path, lock: str) -> None:
    change(project, lock)
    assert commands(project, "down").strip() == ".venv/bin/python -m examples.tiers down"
    shutil.rmtree(project / ".venv")
    assert commands(project, "down").strip() == "python3 -m examples.tiers down"


@pytest.mark.parametrize("target", ["demo", "up", *OPERATOR_TARGETS])
def test_demo_and_operators_do_not_get_a_developers_packages(project: Path, target: str) -> None:
    change(project, "developer")
    assert "install" not in commands(project, target)
    shutil.rmtree(project / ".venv")
    installed = re.findall(r"install.py (\S+)", commands(project, target))
    assert installed == [LOCKS["demo" if target in ("demo", "up") else "operator"]]


@pytest.mark.parametrize("lock", LOCKS)
def test_changed_lock_is_installed_into_the_same_environment(project: Path, lock: str) -> None:
    change(project, lock)
    shown = commands(project, f".venv/{lock}")
    assert f"examples/install.py {LOCKS[lock]}" in shown
    assert "--clear" not in shown
    assert "rm " not in shown


@pytest.mark.parametrize("target", [target for target in OPERATOR_TARGETS if target != "synth"])
def test_arguments_reach_the_command(project: Path, target: str) -> None:
    shown = commands(project, target, "ARGS=--json")
    assert f"-m ops {target} --json" in shown


@pytest.mark.parametrize("target", OPERATOR_TARGETS)
@pytest.mark.parametrize("by_argument", [True, False])
def test_deployment_file_reaches_the_command(project: Path, target: str, by_argument: bool) -> None:
    """As an argument of make, or as a variable of the environment."""
    printed = '\t@echo "$$DEPLOYMENT"'
    makefile = project / "Makefile"
    text = makefile.read_text()
    makefile.write_text(re.sub(rf"(?m)^\t@\$\(RUN\) -m ops {target}.*$", printed, text))
    arguments, variables = [target], {}
    if by_argument:
        arguments.append("DEPLOYMENT=staging.yaml")
    else:
        variables = {"DEPLOYMENT": "staging.yaml"}
    assert make(project, *arguments, **variables) == "staging.yaml\n"


def pins(lock: str) -> dict[str, set[str]]:
    """Returns the versions of each package; some have one per version of Python."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"(?m)^([a-z0-9._-]+)(?:\[[^\]]+\])?==([^ ;]+)", (ROOT / lock).read_text()
    ):
        found.setdefault(name, set()).add(version)
    return found


def test_every_lock_agrees_with_the_others() -> None:
    developer = pins(LOCKS["developer"])
    assert len(developer) > 100
    for lock in (LOCKS["demo"], LOCKS["operator"], "services/orchestrator/requirements.txt"):
        assert pins(lock).items() <= developer.items(), lock
