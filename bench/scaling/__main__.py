"""`make simulate-scaling`: prints what users and owners of a deployment see of its scaling, trace by trace.

DEPLOYMENT=FILE simulates another deployment than bench/scaling/day.yaml, DRAW=FILE.json writes the
working day for `bench.scaling.draw`.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aws_cdk as cdk

from infra.deployment.catalog import load_catalog
from infra.deployment.file import load_deployment
from infra.deployment.plan import Plan
from infra.stacks import build_stacks

from .fleet import Facts
from .resources import Resources
from .simulation import Outcome, simulate
from .traces import ALL, Trace

DEPLOYMENT = Path(__file__).parent / "day.yaml"
_TITLES = (
    "trace", "requests", "p50 s", "p95 s", "max s", "lost", "busy", "starts", "flaps", "GPU h", "always on h",
    "$",
)  # fmt: skip


def plan_of(file: Path) -> Plan:
    """Returns the plan of a deployment file."""
    return Plan(load_deployment(file), load_catalog())


def synthesized(plan: Plan) -> dict[str, Any]:
    """Returns the template of a deployment's serving stack."""
    with tempfile.TemporaryDirectory() as folder:
        app = cdk.App(outdir=folder)
        build_stacks(app, plan)
        app.synth()
        template: dict[str, Any] = json.loads(
            Path(folder, f"{plan.deployment.name}-serving.template.json").read_text()
        )
    return template


def facts_of(plan: Plan) -> Facts:
    """Returns what a deployment says of its engines; the rest are the defaults."""
    model = plan.deployment.model
    return Facts(startup=plan.start_seconds, slots=model.max_num_seqs, queue=model.max_num_queued_reqs)


def run(trace: Trace, resources: Resources, facts: Facts) -> Outcome:
    return simulate(
        resources,
        trace.requests,
        facts,
        seconds=trace.seconds,
        dead_from=trace.dead_from,
        desired=trace.desired,
    )


def row(trace: Trace, outcome: Outcome, most: int, dollars_per_hour: float) -> tuple[str, ...]:
    """Returns the figures of a trace as text."""
    fleet = outcome.fleet
    hours = fleet.instance_seconds / 3600
    return (
        trace.name, f"{len(trace.requests):,}", *(str(outcome.wait(share)) for share in (0.5, 0.95, 1)),
        str(fleet.lost), str(fleet.rejected), str(len(fleet.starts)), str(outcome.flaps), f"{hours:.1f}",
        f"{most * trace.seconds / 3600:.1f}", f"{hours * dollars_per_hour:.2f}",
    )  # fmt: skip


def main() -> None:
    plan = plan_of(Path(os.environ.get("DEPLOYMENT") or DEPLOYMENT))
    resources, facts = Resources.of_template(synthesized(plan)), facts_of(plan)
    price = plan.instances[0].usd_per_hour or 0.0
    rows: list[tuple[str, ...]] = [_TITLES]
    for make in ALL:
        trace = make()
        outcome = run(trace, resources, facts)
        rows.append(row(trace, outcome, resources.most, price))
        if make is ALL[0] and (file := os.environ.get("DRAW")):
            day = {"price": price, "samples": [asdict(sample) for sample in outcome.samples]}
            Path(file).write_text(json.dumps(day))
    widths = [max(len(line[column]) for line in rows) for column in range(len(_TITLES))]
    for line in rows:
        cells = zip(line, widths, strict=True)
        print(
            "  ".join(
                text.rjust(width) if at else text.ljust(width) for at, (text, width) in enumerate(cells)
            )
        )


if __name__ == "__main__":
    main()
