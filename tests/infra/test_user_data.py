"""The script that a GPU instance runs when it boots."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from infra.serving.engine import USER
from infra.serving.user_data import EACH_BOOT, SCRIPT, user_data
from infra.template_checks.user_data import agent_settings, scripts
from tests.infra.synthesis import synthesize

DOCKERFILE = Path(__file__).parents[2] / "services/vllm/Dockerfile"


def test_shellcheck_has_nothing_to_say() -> None:
    linter = Path(sys.executable).with_name("shellcheck")
    for warm in (False, True):
        script = user_data(warm_pool=warm).removeprefix(EACH_BOOT)  # cloud-init removes it, too
        ran = subprocess.run([linter, "-"], input=script, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout) == (0, "")


def test_warm_instances_leave_the_instance_store_alone() -> None:
    script = user_data(warm_pool=True)
    assert agent_settings(script) == agent_settings(SCRIPT.read_text()) | {"ECS_WARM_POOLS_CHECK": "true"}
    assert script.splitlines()[-1] == SCRIPT.read_text().splitlines()[-1]
    assert not re.search("mkfs|mount|docker", script.partition("\nCONFIG\n")[2])
    [(_, deployed)] = scripts(synthesize("warm").assembly())
    assert deployed.startswith(script)


def test_only_a_script_that_formats_no_disk_runs_at_each_boot() -> None:
    assert user_data(warm_pool=True).startswith(
        f"{EACH_BOOT}#!/bin/bash\n# Prepares a GPU instance at each boot,"
    )
    assert user_data(warm_pool=False).startswith("#!/bin/bash\n")


def test_deployed_script_is_the_checked_one_and_names_the_cluster() -> None:
    [(_, script)] = scripts(synthesize("default").assembly())
    added = script.removeprefix(SCRIPT.read_text().rstrip())
    assert re.fullmatch(r"\necho ECS_CLUSTER=\$\{Cluster\w+\} >> /etc/ecs/ecs\.config", added)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_task_runs_as_the_user_of_the_image() -> None:
    assert f"\nUSER {USER}\n" in DOCKERFILE.read_text()
