"""Writes docs/seeded-faults.md: the faults that the tests seed, and which check finds each.

It seeds every fault itself instead of trusting the tests. `--check` checks that the page is up to date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.generated import write_or_check  # noqa: E402
from infra.deployment.checks import check  # noqa: E402
from infra.template_checks.plugin import TEMPLATE_RULES, find  # noqa: E402
from infra.template_checks.template import Assembly  # noqa: E402
from tests.infra.deployment.checks.broken_deployments import BROKEN  # noqa: E402
from tests.infra.synthesis import VARIANTS, synthesize  # noqa: E402
from tests.infra.template_checks.faults import FAULTS  # noqa: E402

COMMAND = ".venv/bin/python docs/seeded_faults.py"
TARGET = ROOT / "docs" / "seeded-faults.md"

INTRODUCTION = f"""\
# Seeded faults

<!-- Written by `{COMMAND}`. -->

Each fault below is put into a correct deployment, and the checks that are part of `cdk synth` must find it.
Without the fault, each of the {len(VARIANTS)} variants of the deployment passes every check. Snapshot tests
do not count.
"""


def template_rows() -> list[str]:
    """A row for each fault in the templates.

    Raises:
        SystemExit: a fault is not found by its rule.
    """
    rows = []
    for mutation in FAULTS:
        synthesis = synthesize(mutation.variant)
        templates = json.loads(json.dumps({"foundation": synthesis.foundation, "serving": synthesis.serving}))
        mutation.change(templates)
        finders = {finding.rule for finding in find(Assembly(templates, synthesis.plan))}
        rows.append(_row(mutation.name, mutation.rule, finders, mutation.variant))
    return rows


def deployment_rows() -> list[str]:
    """A row for each fault in the deployment file.

    Raises:
        SystemExit: a fault is not found by its rule.
    """
    rows = []
    for rule, deployments in BROKEN.items():
        for broken in deployments:
            findings = check(broken)
            finders = {finding.rule for finding in findings}
            message = next((one.message for one in findings if one.rule == rule), "")
            rows.append(_row(message.replace("|", "\\|"), rule, finders, "deployment file"))
    return rows


def _row(fault: str, rule: str, finders: set[str], where: str) -> str:
    if rule not in finders:
        sys.exit(f"the fault {fault!r} is not found by {rule}, only by {sorted(finders)}")
    others = ", ".join(f"`{name}`" for name in sorted(finders - {rule}))
    return f"| {fault} | {where} | `{rule}` | {others} |\n"


def document() -> str:
    """The whole page."""
    templates, deployments = template_rows(), deployment_rows()
    head = "| fault | in | found by | also found by |\n|---|---|---|---|\n"
    parts = [
        INTRODUCTION,
        f"## {len(templates)} faults in the templates\n\n{head}{''.join(templates)}",
        f"## {len(deployments)} faults in the deployment file\n\n{head}{''.join(deployments)}",
        "## The checks on the templates\n\n"
        "The checks on the deployment file are in [its reference](deployment-reference.md)."
        "\n\n| check | what it prevents |\n|---|---|\n"
        + "".join(f"| `{rule.name}` | {rule.title} |\n" for rule in TEMPLATE_RULES),
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(write_or_check({TARGET: document()}, COMMAND))
