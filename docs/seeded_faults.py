"""Writes docs/seeded-faults.md: the faults that the tests seed, and which command finds each, and when.

It seeds every fault itself instead of trusting the tests. `--check` checks that the page is up to date.
`--measure` first measures how long `make synth` takes to report, and reads what `make rehearse` has found.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.generated import write_or_check  # noqa: E402
from infra.deployment.checks import check  # noqa: E402
from infra.template_checks import schema  # noqa: E402
from infra.template_checks.plugin import TEMPLATE_RULES, find  # noqa: E402
from infra.template_checks.schema import CACHE, RULE  # noqa: E402
from infra.template_checks.template import Assembly  # noqa: E402
from tests.infra.deployment.checks.broken_deployments import BROKEN  # noqa: E402
from tests.infra.synthesis import VARIANT_FILES, VARIANTS, synthesize  # noqa: E402
from tests.infra.template_checks.faults import FAULTS  # noqa: E402
from tests.infra.template_checks.faults.schema import SCHEMA_FAULTS  # noqa: E402
from tests.rehearsal.steps import FOUND  # noqa: E402

COMMAND = ".venv/bin/python docs/seeded_faults.py"
TARGET = ROOT / "docs" / "seeded-faults.md"

TIMES = ROOT / "docs" / "seeded-faults.json"
FILE = "deployment file"

INTRODUCTION = f"""\
# Seeded faults

<!-- Written by `{COMMAND}`. -->

Each fault below is put into a correct deployment, and the command that is named must find it. `make synth`
finds those in the templates and in the deployment file, before anything is deployed; `make deploy` runs the
same checks. Without the fault, each of the {len(VARIANTS)} variants of the deployment passes every check.
Snapshot tests do not count.

The seconds are those from the start of the command to its report, measured on {{measured}}. A template rule
needs milliseconds: what takes the time is the synthesis of the variant, so its seconds are given.
"""


def measure() -> None:
    """Measures `make synth` with each variant and with a broken file, and writes docs/seeded-faults.json."""
    with tempfile.TemporaryDirectory() as directory:
        broken = Path(directory, "broken.yaml")
        broken.write_text("gpu:\n  replicas: -1\n")
        seconds = {FILE: _seconds_of_synth(broken)}
        for variant in VARIANTS:
            seconds[variant] = _seconds_of_synth(VARIANT_FILES / f"{variant}.yaml")
    before = json.loads(TIMES.read_text()) if TIMES.exists() else {}
    rehearsed = json.loads(FOUND.read_text()) if FOUND.exists() else before.get("rehearsal", [])
    machine = f"{datetime.now(UTC):%Y-%m-%d}, on two cores shared with other work"
    times = {"measured": machine, "synth": seconds, "rehearsal": rehearsed}
    TIMES.write_text(json.dumps(times, indent=1) + "\n")


def _seconds_of_synth(file: Path) -> float:
    """The time until `make synth` reports; templates with a fault are not in the cache of cfn-lint."""
    for accepted in CACHE.glob("*"):
        accepted.unlink()
    command = [sys.executable, "-m", "ops", "synth", "--deployment", str(file)]
    start = time.monotonic()
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)  # noqa: S603
    return round(time.monotonic() - start, 1)


def seconds_of(where: str) -> str:
    """The measured seconds of `make synth`.

    Raises:
        SystemExit: nobody has measured this variant.
    """
    times = json.loads(TIMES.read_text())["synth"]
    if where not in times:
        sys.exit(f"no time is known for the variant {where}; to measure it, run {COMMAND} --measure")
    return f"{times[where]:.0f}"


def template_rows() -> list[str]:
    """A row for each fault in the templates.

    Raises:
        SystemExit: a fault is not found by its rule.
    """
    rows = []
    for mutation in [*FAULTS, *SCHEMA_FAULTS]:
        synthesis = synthesize(mutation.variant)
        templates = json.loads(json.dumps({"foundation": synthesis.foundation, "serving": synthesis.serving}))
        mutation.change(templates)
        if mutation.rule == RULE:
            finders = _schema_finders(templates["serving"])
        else:
            finders = {finding.rule for finding in find(Assembly(templates, synthesis.plan))}
        rows.append(_row(mutation.name, mutation.rule, finders, mutation.variant))
    return rows


def _schema_finders(template: object) -> set[str]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "serving.template.json")
        path.write_text(json.dumps(template))
        return {
            finding.rule for finding in schema.find([str(path)], region="us-east-1", cache=Path(directory))
        }


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
    return f"| {fault} | {where} | `make synth` | {seconds_of(where)} | `{rule}` | {others} |\n"


def rehearsed_rows() -> list[str]:
    """A row for each fault that the last recorded rehearsal has found."""
    return [
        f"| {one['fault']} | `{one['command']}` | {one['seconds']:.0f} | {one['report']} |\n"
        for one in json.loads(TIMES.read_text())["rehearsal"]
    ]


def document() -> str:
    """The whole page."""
    templates, deployments = template_rows(), deployment_rows()
    rehearsed = rehearsed_rows()
    measured = json.loads(TIMES.read_text())["measured"]
    head = "| fault | in | command | s | found by | also found by |\n|---|---|---|---|---|---|\n"
    parts = [
        INTRODUCTION.replace("{measured}", measured),
        f"## {len(templates)} faults in the templates\n\n{head}{''.join(templates)}",
        f"## {len(deployments)} faults in the deployment file\n\n{head}{''.join(deployments)}",
        f"## {len(rehearsed)} faults in the account and in what is deployed\n\n"
        "`make rehearse` seeds these in an emulated account and in the running containers, and checks that\n"
        "the command reports them. What only `make rehearse` finds are faults of this project.\n\n"
        "| fault | command | s | what it reports |\n|---|---|---|---|\n" + "".join(rehearsed),
        "## The checks on the templates\n\n"
        "The checks on the deployment file are in [its reference](deployment-reference.md)."
        "\n\n| check | what it prevents |\n|---|---|\n"
        + "".join(f"| `{rule.name}` | {rule.title} |\n" for rule in TEMPLATE_RULES)
        + f"| `{RULE}` | CloudFormation's schema knows every type, property and value (cfn-lint). |\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        measure()
        sys.argv.pop()
    sys.exit(write_or_check({TARGET: document()}, COMMAND))
