"""Checks whether the orchestrator would start with the deployment's settings and tools."""

from __future__ import annotations

from infra.deployment.checks import check
from infra.deployment.service_check import CheckFailed, check_service, has_own
from ops import image_packages
from ops.account import Account, Failed
from ops.report import Result, Status

_SUBJECT = "tools"


def check_tools(account: Account) -> list[Result]:
    """Imports the tool modules as the orchestrator would, with the packages of its image and no others."""
    plan = account.plan
    if not has_own(plan):
        return [Result(Status.OK, _SUBJECT, "the built-in ones, with their default settings")]
    if any(finding.rule == "tool-files" for finding in check(plan.deployment)):
        return [Result(Status.UNKNOWN, _SUBJECT, "not checked: see the findings about tools above")]
    try:
        python = image_packages.install(plan)
    except Failed as error:
        fix = "correct tools.requirements (make lock-tools writes it), or look at the connection to PyPI"
        return [Result(Status.ERROR, _SUBJECT, f"the image's packages cannot be installed: {error}", fix)]
    try:
        problems = check_service(plan, python)
    except CheckFailed as error:
        return [
            Result(Status.ERROR, _SUBJECT, str(error), "import the modules yourself, and see what they do")
        ]
    modules = ", ".join(plan.deployment.tools.modules) or "no modules of your own"
    return [
        Result(Status.ERROR, _SUBJECT, f"{one.setting}: {one.message}", f"correct {one.setting}")
        for one in problems
    ] or [Result(Status.OK, _SUBJECT, f"{modules}: the orchestrator starts with them")]
