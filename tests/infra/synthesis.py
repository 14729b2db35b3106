"""Synthesizes the variants of the deployment, in this process, without the CDK CLI."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aws_cdk as cdk

from infra.deployment.catalog import load_catalog
from infra.deployment.file import load_deployment
from infra.deployment.plan import Plan
from infra.stacks import build_stacks
from infra.template_checks.template import Assembly

VARIANT_FILES = Path(__file__).parent / "variants"
VARIANTS = sorted(path.stem for path in VARIANT_FILES.glob("*.yaml"))

Template = dict[str, Any]


@dataclass(frozen=True)
class Synthesis:
    """What a variant comes to."""

    plan: Plan
    directory: Path
    foundation: Template
    serving: Template

    def assembly(self) -> Assembly:
        """The templates as the rules read them: a copy, which may be changed."""
        templates = {"foundation": self.foundation, "serving": self.serving}
        return Assembly(json.loads(json.dumps(templates)), self.plan)


def plan_of(variant: str) -> Plan:
    """The plan of a variant."""
    return Plan(load_deployment(VARIANT_FILES / f"{variant}.yaml"), load_catalog())


@functools.cache
def synthesize(variant: str) -> Synthesis:
    """Synthesizes a variant, once a process. Nothing may change the templates that it returns."""
    directory = Path(tempfile.mkdtemp(prefix=f"cdk-{variant}-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    plan = plan_of(variant)
    app = cdk.App(outdir=str(directory))
    build_stacks(app, plan)
    app.synth()
    name = plan.deployment.name
    return Synthesis(
        plan,
        directory,
        json.loads((directory / f"{name}-foundation.template.json").read_text()),
        json.loads((directory / f"{name}-serving.template.json").read_text()),
    )
