"""The script that a GPU instance runs at its first boot."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from infra.serving.engine import USER
from infra.serving.gpu_instances import USER_DATA
from infra.template_checks.user_data import scripts
from tests.infra.synthesis import synthesize

DOCKERFILE = Path(__file__).parents[2] / "services/vllm/Dockerfile"


def test_shellcheck_has_nothing_to_say() -> None:
    linter = Path(sys.executable).with_name("shellcheck")
    ran = subprocess.run([linter, USER_DATA], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "")


def test_deployed_script_is_the_checked_one_and_names_the_cluster() -> None:
    [(_, script)] = scripts(synthesize("default").assembly())
    added = script.removeprefix(USER_DATA.read_text().rstrip())
    assert re.fullmatch(r"\necho ECS_CLUSTER=\$\{Cluster\w+\} >> /etc/ecs/ecs\.config", added)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_task_runs_as_the_user_of_the_image() -> None:
    assert f"\nUSER {USER}\n" in DOCKERFILE.read_text()
