"""The orchestrator is asked, as a program of its own, whether it would start with a deployment's tools."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from infra.deployment import service_check
from infra.deployment.catalog import load_catalog
from infra.deployment.file import DeploymentError, load_deployment
from infra.deployment.plan import Plan
from infra.deployment.service_check import CheckFailed, check_service, checked, has_own, interpreter
from tests.infra.deployment.checks.broken_deployments import SECRET, deployment

PYTHON = Path(sys.executable)
TOOL = '''
import os

TOKEN = os.environ["CRM_TOKEN"]
{line}

def find_customer(name: str) -> str:
    """Find a customer."""
    return name
'''


def problems(**settings: object) -> dict[str, str]:
    plan = Plan(deployment(**settings), load_catalog())
    return {one.setting: one.message for one in check_service(plan, PYTHON)}


@pytest.fixture
def own(tmp_path: Path) -> dict[str, object]:
    """Settings of a deployment with a module that needs a secret when it is imported."""
    (tmp_path / "crm.py").write_text(TOOL.format(line=""))
    return {
        "tools__directory": str(tmp_path),
        "tools__modules": ["crm"],
        "tools__secrets": {"CRM_TOKEN": SECRET},
    }


def test_tools_that_load_have_no_problems(own: dict[str, object]) -> None:
    assert problems(**own, tools__attach=["find_customer"]) == {}


def test_default_deployment_has_nothing_to_check() -> None:
    assert not has_own(Plan(deployment(), load_catalog()))


@pytest.mark.parametrize(
    ("settings", "setting", "message"),
    [
        ({"tools__attach": ["calculate_mth"]}, "tools.attach", "did you mean calculate_math?"),
        ({"tools__secrets": {}}, "tools.modules.0", "KeyError: 'CRM_TOKEN'"),
        (
            {"orchestrator__environment": {"MAX_IN_FLIGHT": "0"}},
            "orchestrator.environment.MAX_IN_FLIGHT",
            "greater than or equal to 1",
        ),
        (
            {"orchestrator__environment": {"MAX_INFLIGHT": "5"}},
            "orchestrator.environment.MAX_INFLIGHT",
            "did you mean MAX_IN_FLIGHT?",
        ),
        (
            {"orchestrator__environment": {"CRM_URL": "x"}},
            "orchestrator.environment.CRM_URL",
            "tools.environment",
        ),
        (
            {"tools__environment": {"LOG_CONTENT": "true"}},
            "tools.environment.LOG_CONTENT",
            "use orchestrator.environment.LOG_CONTENT",
        ),
        ({"tools__timeout_seconds": 10, "tools__max_rounds": 5}, "", ""),
    ],
)
def test_problem_names_its_setting(
    own: dict[str, object], settings: dict[str, object], setting: str, message: str
) -> None:
    found = problems(**(own | settings))
    assert list(found) == [setting] * bool(setting)
    assert message in found.get(setting, "")


def test_package_that_the_image_lacks_is_named(own: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "crm.py").write_text(TOOL.format(line="import no_such_package"))
    assert "needs the module 'no_such_package'" in problems(**own)["tools.modules.0"]


def test_module_that_ends_the_process_is_reported(own: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "crm.py").write_text(TOOL.format(line="os._exit(4)"))
    with pytest.raises(CheckFailed, match="exit status 4"):
        problems(**own)


def test_module_that_never_ends_is_reported(
    own: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_check, "_SECONDS", 0.2)
    with pytest.raises(CheckFailed, match="not imported within"):
        problems(**own)


def test_own_credentials_do_not_reach_the_tools(
    own: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    line = 'assert "AWS_SECRET_ACCESS_KEY" not in os.environ'
    (tmp_path / "crm.py").write_text(TOOL.format(line=line))
    assert problems(**own) == {}


def test_synthesis_says_what_it_did_not_check(
    own: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_check, "ENVIRONMENTS", tmp_path / "none")
    said: list[str] = []
    checked(Plan(deployment(**own), load_catalog()), report=said.append)
    assert "were not checked" in said[0]
    assert "make doctor" in said[0]


def test_synthesis_stops_where_the_environment_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_check, "ENVIRONMENTS", tmp_path / "environments")
    file = tmp_path / "tandem.yaml"
    file.write_text("tools:\n  attach: [calculate_mth]\n")
    plan = Plan(load_deployment(file), load_catalog())
    assert interpreter(plan) is None
    directory = service_check.environment_directory(plan)
    (directory / "bin").mkdir(parents=True)
    (directory / "bin" / "python").symlink_to(PYTHON)
    monkeypatch.setattr(service_check, "interpreter", lambda _: PYTHON)
    with pytest.raises(DeploymentError) as caught:
        checked(plan, report=lambda _: None)
    assert str(caught.value).startswith(f"{file}:2: error: tools.attach: ")


def test_another_lock_file_is_another_environment(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    directories = set()
    for text in ("a==1 --hash=sha256:0\n", "a==2 --hash=sha256:0\n"):
        lock.write_text(text)
        plan = Plan(deployment(tools__requirements=str(lock)), load_catalog())
        directories.add(service_check.environment_directory(plan))
    directories.add(service_check.environment_directory(Plan(deployment(), load_catalog())))
    assert len(directories) == 3
