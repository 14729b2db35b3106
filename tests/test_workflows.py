"""The workflows: what they run exists, what they use is pinned, and their permissions are minimal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
CHECK = FILES[0]
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def workflow(file: Path) -> dict[str, Any]:
    # YAML parses the key `on` as true.
    loaded: dict[str, Any] = {str(key): value for key, value in yaml.safe_load(file.read_text()).items()}
    return loaded


def steps(file: Path) -> list[dict[str, Any]]:
    return [step for job in workflow(file)["jobs"].values() for step in job["steps"]]


def test_there_are_two_workflows() -> None:
    assert [file.stem for file in FILES] == ["check", "deploy"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_make_target_exists(file: Path) -> None:
    called = [
        name for step in steps(file) for name in re.findall(r"\bmake ([a-z0-9-]+)", step.get("run", ""))
    ]
    assert called
    assert set(called) <= TARGETS


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_action_is_pinned_by_its_commit(file: Path) -> None:
    used = [line for line in file.read_text().splitlines() if "uses:" in line]
    assert used
    for line in used:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_workflows_may_only_read_unless_a_job_declares_more(file: Path) -> None:
    assert workflow(file)["permissions"] == {"contents": "read"}
    for name, job in workflow(file)["jobs"].items():
        assumes = any("configure-aws-credentials" in step.get("uses", "") for step in job["steps"])
        assert (job.get("permissions", {}).get("id-token") == "write") == assumes, name
        assert job["timeout-minutes"]


def test_ci_and_both_workflows_run_the_gate() -> None:
    assert "\nmake gate\n" in (ROOT / ".ci" / "run").read_text()
    for file in FILES:
        commands = [step["run"] for step in workflow(file)["jobs"]["gate"]["steps"] if "run" in step]
        assert "make gate" in commands
        assert [name for run in commands for name in re.findall(r"\bmake ([a-z-]+)", run)][-1] == "gate"


def test_gate_runs_every_kind_of_check() -> None:
    recipe = re.search(r"^gate:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    ran = re.findall(r"\$\(MAKE\) ([a-z0-9-]+)", recipe[1])
    assert ran == ["check", "synth", "test", "e2e", "containers", "rehearse", "fuzz", "bench-guard"]


def test_node_is_one_that_the_cdk_supports() -> None:
    for file in FILES:
        versions = [
            step["with"]["node-version"] for step in steps(file) if "setup-node" in step.get("uses", "")
        ]
        assert versions
        assert set(versions) <= {"22", "24"}


def test_deployment_waits_for_approval_and_for_the_previous_one() -> None:
    (deploy,) = [file for file in FILES if file.stem == "deploy"]
    loaded = workflow(deploy)
    assert loaded["jobs"]["deploy"]["environment"] == "production"
    assert loaded["jobs"]["deploy"]["needs"] == "gate"
    assert loaded["concurrency"]["cancel-in-progress"] is False
    assert loaded["True"] == {"push": {"tags": ["v*"]}}


def test_diff_is_skipped_with_a_notice_without_a_role() -> None:
    jobs = workflow(CHECK)["jobs"]
    assert "head.repo.full_name == github.repository" in jobs["deployed"]["if"]
    conditions = [step["if"] for step in jobs["deployed"]["steps"]]
    assert conditions[0] == "env.DIFF_ROLE_ARN == ''"
    assert set(conditions[1:]) == {"env.DIFF_ROLE_ARN != ''"}
    assert jobs["diff"]["needs"] == "deployed"
    assert jobs["diff"]["if"] == "needs.deployed.outputs.has-role == 'true'"
    assert jobs["comment"]["needs"] == "diff"


def test_code_of_a_pull_request_never_runs_in_a_job_with_permissions() -> None:
    for name, job in workflow(CHECK)["jobs"].items():
        runs_code = any("actions/checkout" in step.get("uses", "") for step in job["steps"])
        granted = job.get("permissions", {"contents": "read"})
        if runs_code:
            assert granted == {"contents": "read"}, name
            assert "secrets." not in str(job), name
            assert "configure-aws-credentials" not in str(job), name
        else:  # nothing that an artifact or a checkout could bring is run
            ran = "\n".join(step.get("run", "") for step in job["steps"])
            assert not re.search(r"\b(make|npm|npx|node|python3?|pip|bash|sh|eval|source)\b|\./", ran), name
    assert "pull_request_target" not in CHECK.read_text()


def test_no_expression_of_a_pull_request_is_pasted_into_a_script() -> None:
    for file in FILES:
        for step in steps(file):
            assert "${{" not in step.get("run", "") + step.get("with", {}).get("script", "")
