"""`make simulate-scaling`: prints what users and owners of a deployment see of its scaling.

It simulates each trace, and compares ways to run the working day. DEPLOYMENT=FILE replaces the deployment of
the traces, bench/scaling/day.yaml. DAY=FILE.png draws the working day.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


CHOICES = (
    "replicas: 1",
    "replicas: 2",
    "replicas: 3",
    "min_replicas: 1, max_replicas: 3",
    "min_replicas: 0, max_replicas: 3",
    "min_replicas: 0, max_replicas: 3, idle_minutes: 60",
    "min_replicas: 0, max_replicas: 3, scale_up_at: 0.5",
    "min_replicas: 0, max_replicas: 3, schedule: [{cron: 50 7 * * *, min_replicas: 1}, "
    "{cron: 0 18 * * *, min_replicas: 0}]",
)
"""Ways to run the working day, as settings of `gpu`."""


def choice(settings: str, folder: Path) -> tuple[Resources, Plan]:
    """Returns what scales the engines with these settings of `gpu`."""
    file = folder / "tandem.yaml"
    file.write_text(f"gpu: {{{settings}}}\n")
    plan = plan_of(file)
    gpu = plan.deployment.gpu
    if gpu.least == gpu.most and not gpu.schedule:
        return Resources(gpu.least, gpu.most, (), {}, ()), plan
    return Resources.of_template(synthesized(plan)), plan


def compare_choices() -> None:
    """Prints what each way to run the working day costs and gives."""
    trace = ALL[0]()
    rows: list[tuple[str, ...]] = [("gpu", *_TITLES[1:])]
    with tempfile.TemporaryDirectory() as folder:
        for settings in CHOICES:
            resources, plan = choice(settings, Path(folder))
            outcome = simulate(
                resources, trace.requests, facts_of(plan), seconds=trace.seconds, desired=resources.least
            )
            price = plan.instances[0].usd_per_hour or 0.0
            rows.append((settings, *row(trace, outcome, resources.most, price)[1:]))
    show(rows)


def main() -> None:
    plan = plan_of(Path(os.environ.get("DEPLOYMENT") or DEPLOYMENT))
    resources, facts = Resources.of_template(synthesized(plan)), facts_of(plan)
    price = plan.instances[0].usd_per_hour or 0.0
    rows: list[tuple[str, ...]] = [_TITLES]
    for make in ALL:
        trace = make()
        outcome = run(trace, resources, facts)
        rows.append(row(trace, outcome, resources.most, price))
        if make is ALL[0] and (file := os.environ.get("DAY")):
            draw(outcome, resources.most, price, file)
    show(rows)
    print()
    compare_choices()


def draw(outcome: Outcome, most: int, price: float, file: str) -> None:
    """Draws a day, with matplotlib in an environment of its own."""
    day = {"price": price, "most": most, "samples": [asdict(sample) for sample in outcome.samples]}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as source:
        json.dump(day, source)
        source.flush()
        plot = [
            "run",
            "--quiet",
            "--no-project",
            "--with",
            "matplotlib",
            "python",
            "-m",
            "bench.scaling.draw",
        ]
        subprocess.run([Path(sys.executable).with_name("uv"), *plot, source.name, file], check=True)


def show(rows: list[tuple[str, ...]]) -> None:
    """Prints rows with aligned columns."""
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
