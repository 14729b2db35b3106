"""A virtual environment with exactly the packages of the orchestrator's image, to import tools in."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from infra.deployment.plan import Plan
from infra.deployment.service_check import ENVIRONMENTS, environment_directory, interpreter, requirements

from .account import Failed
from .report import say

_SECONDS = 600
_REASONS = ("ERROR:", "error:")


def install(plan: Plan) -> Path:
    """Returns the environment's Python, after installing the packages unless they are installed already.

    Raises:
        Failed: pip cannot install them. The message has its reason.
    """
    found = interpreter(plan)
    if found:
        return found
    say("Installing the packages of the image, to import your tools (once, about a minute) ...")
    directory = environment_directory(plan)
    shutil.rmtree(ENVIRONMENTS, ignore_errors=True)  # those of earlier lock files
    python = directory / "bin" / "python"
    _run([sys.executable, "-m", "venv", str(directory)])
    files = [argument for file in requirements(plan) for argument in ("-r", str(file))]
    # The same options as in services/orchestrator/Dockerfile.
    options = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"]
    _run([str(python), "-m", "pip", "install", *options, *files])
    (directory / "complete").touch()
    return python


def _run(command: list[str]) -> None:
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"the packages were not installed within {_SECONDS} s") from None
    if ended.returncode:
        lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
        reasons = [line for line in lines if line.startswith(_REASONS)] or lines[-1:]
        raise Failed(" ".join(reasons))
