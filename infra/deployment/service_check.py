"""Asks the orchestrator itself whether it would start with a deployment's settings and tools.

It runs as a separate program, in an environment that has the packages of its image and no others, since a
module that is imported with more packages at hand proves nothing.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .environment import OWNED, orchestrator_environment, secret_variables
from .file import DeploymentError
from .plan import Plan
from .tool_files import ROOT, modules_in, tools_directory, tools_requirements

SERVICE = ROOT / "services" / "orchestrator"
ENVIRONMENTS = ROOT / ".cache" / "image-packages"

_SECONDS = 60
_PLACEHOLDERS = {
    "DATABASE_URL": "postgresql://reader:placeholder@database.invalid:5432/placeholder",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=placeholder",
}
_PLACEHOLDER = "placeholder-of-a-secret-value"


@dataclass(frozen=True, slots=True)
class Problem:
    """A setting that would stop the orchestrator, such as `tools.modules`, and why."""

    setting: str
    message: str


class CheckFailed(Exception):
    """The orchestrator could not be asked. The message says why."""


def has_own(plan: Plan) -> bool:
    """Returns whether the deployment sets anything that only the orchestrator can check."""
    tools = plan.deployment.tools
    own = (tools.modules, tools.attach, tools.requirements, tools.environment, tools.secrets, tools.mcp)
    return any(own) or bool(plan.deployment.orchestrator.environment)


def requirements(plan: Plan) -> list[Path]:
    """Returns the lock files of the image's packages."""
    own = tools_requirements(plan.deployment.tools)
    return [SERVICE / "requirements.txt", *([own] if own else [])]


def environment_directory(plan: Plan) -> Path:
    """Returns where the virtual environment with exactly the image's packages is, or would be."""
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    for file in requirements(plan):
        digest.update(file.read_bytes())
    return ENVIRONMENTS / digest.hexdigest()[:16]


def interpreter(plan: Plan) -> Path | None:
    """Returns the Python of that environment; None if it is not installed, or a lock file is missing."""
    if not all(file.is_file() for file in requirements(plan)):
        return None
    directory = environment_directory(plan)
    return directory / "bin" / "python" if (directory / "complete").exists() else None


def checked(plan: Plan, *, report: Callable[[str], object]) -> None:
    """Checks the settings and tools where the environment is installed already, else reports that it is not.

    Raises:
        DeploymentError: The orchestrator would not start. The message lists every problem.
    """
    if not has_own(plan):
        return
    python = interpreter(plan)
    if python is None:
        report("The tools and the orchestrator's variables were not checked. `make doctor` imports them.\n")
        return
    try:
        problems = check_service(plan, python)
    except CheckFailed as error:
        raise DeploymentError(str(error)) from None
    if problems:
        lines = (
            f"{plan.deployment.where(one.setting)}error: {one.setting}: {one.message}" for one in problems
        )
        raise DeploymentError("\n".join(lines))


def check_service(plan: Plan, python: Path) -> list[Problem]:
    """Runs the orchestrator's own check with the environment of its container.

    Raises:
        CheckFailed: It ended without a report, for example because a module takes too long to import.
    """
    answer = _ask(plan, python)
    found = [*_misplaced(plan, answer["settings"]), *(_problem(plan, one) for one in answer["problems"])]
    return [problem for problem in found if problem.setting not in _absent(plan)]


def _absent(plan: Plan) -> set[str]:
    """The modules without a file, which the rule tool-files reports."""
    tools = plan.deployment.tools
    there = modules_in(tools_directory(tools))
    return {
        f"tools.modules.{number}"
        for number, module in enumerate(tools.modules)
        if tools.requirements is None and module.partition(".")[0] not in there
    }


def _ask(plan: Plan, python: Path) -> Any:
    values = orchestrator_environment(plan, api_keys_secret_arn="")
    values |= {name: _PLACEHOLDERS.get(name, _PLACEHOLDER) for name in secret_variables(plan)}
    values |= {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{SERVICE}:{tools_directory(plan.deployment.tools)}",
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with tempfile.TemporaryDirectory(prefix="tandem-check-") as directory:
        try:
            ended = subprocess.run(  # noqa: S603  our own program, without a shell
                [str(python), "-m", "orchestrator.check"],
                cwd=directory,
                env=values,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CheckFailed(f"the tool modules were not imported within {_SECONDS} s") from None
    try:
        return json.loads(ended.stdout)
    except json.JSONDecodeError:
        last = ended.stderr.strip().splitlines()[-1:] or [f"exit status {ended.returncode}"]
        raise CheckFailed(f"the orchestrator's check ended without a report: {last[0]}") from None


def _misplaced(plan: Plan, known: list[str]) -> Iterator[Problem]:
    """Variables of the orchestrator among those of the tools, and the other way round."""
    tools = plan.deployment.tools
    for name in plan.deployment.orchestrator.environment:
        if name not in known:
            near = difflib.get_close_matches(name, [one for one in known if one not in OWNED], n=1)
            meant = f"; did you mean {near[0]}?" if near else "; variables of tools go into tools.environment"
            yield Problem(
                f"orchestrator.environment.{name}", f"the orchestrator has no setting {name}{meant}"
            )
    for section, names in (("environment", tools.environment), ("secrets", tools.secrets)):
        for name in names:
            if name in known and name not in OWNED:
                yield Problem(
                    f"tools.{section}.{name}",
                    f"{name} is a setting of the orchestrator; use orchestrator.environment.{name}",
                )


def _problem(plan: Plan, found: dict[str, str]) -> Problem:
    name, value, reason = found["name"], found["value"], found["problem"]
    setting = OWNED.get(name) or f"orchestrator.environment.{name}"
    if name == "TOOL_MODULES" and value in plan.deployment.tools.modules:
        return Problem(f"tools.modules.{plan.deployment.tools.modules.index(value)}", reason)
    return Problem(setting, f"{value!r} cannot be used: {reason}")
