"""`python -m orchestrator.check` finds every problem of an environment, and connects to nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.check import check

ROOT = Path(__file__).parents[3]


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def found(**environment: str) -> list[tuple[str, str]]:
    return [(one.name, one.value) for one in check(environment).problems]


def test_defaults_have_no_problems() -> None:
    report = check({})
    assert report.problems == []
    assert report.tools == ["calculate_math", "get_current_weather", "query_database"]


def test_every_invalid_setting_is_reported() -> None:
    given = {"PORT": "90000", "LOG_LEVEL": "loud", "TOOL_THREADS": "0"}
    assert sorted(found(**given)) == sorted(given.items())


def test_settings_that_do_not_go_together_are_reported() -> None:
    assert found(DRAIN_SECONDS="500") == [("STOP_SECONDS", "110")]


def test_every_module_and_every_attached_tool_is_reported(modules: Path) -> None:
    (modules / "one_good.py").write_text(
        'def add_one(number: int) -> int:\n    """Add one."""\n    return 1\n'
    )
    (modules / "one_broken.py").write_text("1 / 0\n")
    (modules / "one_exit.py").write_text("raise SystemExit(3)\n")
    names = "one_good,one_broken,no_such_module,one_exit"
    assert found(TOOL_MODULES=names) == [
        ("TOOL_MODULES", "one_broken"),
        ("TOOL_MODULES", "no_such_module"),
        ("TOOL_MODULES", "one_exit"),
    ]
    report = check({"TOOL_MODULES": "one_good", "ATTACH_TOOLS": "add_one,calculate_mth,add_on"})
    assert [one.value for one in report.problems] == ["calculate_mth", "add_on"]
    assert [one.problem.rpartition("did you mean ")[2] for one in report.problems] == [
        "calculate_math?",
        "add_one?",
    ]


def test_tools_of_the_same_name_are_reported(modules: Path) -> None:
    (modules / "my_math.py").write_text(
        'def calculate_math(expression: str) -> str:\n    """Calculate."""\n    return ""\n'
    )
    (problem,) = check({"TOOL_MODULES": "my_math"}).problems
    assert "two tools are named 'calculate_math'" in problem.problem


def test_secrets_are_hidden() -> None:
    (problem,) = check({"DATABASE_URL": "mysql://root:hunter2@db", "DATABASE_TABLES": "orders"}).problems
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize(("settings", "status"), [({}, 0), ({"PORT": "x"}, 1)])
def test_program_prints_one_object(tmp_path: Path, settings: dict[str, str], status: int) -> None:
    (tmp_path / "talks.py").write_text(
        'print("hello")\n\ndef talk() -> str:\n    """Talk."""\n    return ""\n'
    )
    path = f"{ROOT}/services/orchestrator:{tmp_path}"
    ended = subprocess.run(
        [sys.executable, "-m", "orchestrator.check"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "TOOL_MODULES": "talks", **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout)
    assert "talk" in answer["tools"]
    assert "MAX_IN_FLIGHT" in answer["settings"]
