"""The checks that others wrote: cdk-nag and checkov are content with every variant.

What they are not content with is accepted beside its resource, with the reason.
"""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import cdk_nag
import pytest
from aws_cdk import aws_ec2 as ec2

from infra.serving.stack import ServingStack
from infra.stacks import build_stacks
from tests.infra.synthesis import VARIANTS, plan_of, synthesize

ROOT = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).with_name("checkov-requirements.txt")


def _nag(app: cdk.App, directory: Path) -> list[str]:
    """The violations that cdk-nag reports for an app."""
    cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app))
    with contextlib.suppress(RuntimeError):  # what a violation ends the synthesis with
        app.synth()
    report = json.loads((directory / "validation-report.json").read_text())
    return [
        f"{violation['ruleName']} {where['constructPath']}"
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        if plugin["pluginName"] == "AwsSolutions"
        for where in violation["violatingConstructs"]
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_cdk_nag(variant: str, tmp_path: Path) -> None:
    app = cdk.App(outdir=str(tmp_path))
    build_stacks(app, plan_of(variant))
    assert _nag(app, tmp_path) == []


def test_cdk_nag_finds_what_is_wrong(tmp_path: Path) -> None:
    app = cdk.App(outdir=str(tmp_path))
    build_stacks(app, plan_of("default"))
    stack = next(one for one in app.node.children if isinstance(one, ServingStack))
    ssh = ec2.CfnSecurityGroup.IngressProperty(
        ip_protocol="tcp", cidr_ip="0.0.0.0/0", from_port=22, to_port=22
    )
    ec2.CfnSecurityGroup(stack, "Open", group_description="open", security_group_ingress=[ssh])
    assert _nag(app, tmp_path) == ["AwsSolutions-EC23 tandem-serving/Open"]


@functools.cache
def _checkov() -> Path:
    """checkov, in an environment of its own, since it pins other versions than ours of what we need."""
    environment = ROOT / ".cache" / "checkov"
    program = environment / "bin" / "checkov"
    installed = environment / "requirements.txt"
    if not installed.exists() or installed.read_bytes() != REQUIREMENTS.read_bytes():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run(
            [*uv, "venv", "-q", "--clear", "--python", sys.executable, str(environment)], check=True
        )
        python = str(environment / "bin" / "python")
        subprocess.run(
            [*uv, "pip", "install", "-q", "--python", python, "--require-hashes", "-r", str(REQUIREMENTS)],
            check=True,
        )
        installed.write_bytes(REQUIREMENTS.read_bytes())
    return program


def _scan(directory: Path) -> dict[str, Any]:
    done = subprocess.run(
        [_checkov(), "-d", directory, "--framework", "cloudformation", "--skip-download", "-o", "json"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(directory), "LOG_LEVEL": "ERROR"},
    )
    results: dict[str, Any] = json.loads(done.stdout)["results"]
    assert results["parsing_errors"] == []
    return results


@pytest.mark.timeout(600)
@pytest.mark.xdist_group("checkov")
def test_checkov(tmp_path: Path) -> None:
    accepted = set()
    for variant in VARIANTS:
        for stack in ("foundation", "serving"):
            template = getattr(synthesize(variant), stack)
            (tmp_path / f"{variant}-{stack}.template.json").write_text(json.dumps(template))
            for body in template["Resources"].values():
                skips = body.get("Metadata", {}).get("checkov", {}).get("skip", [])
                accepted |= {one["id"] for one in skips}
                assert all(one["comment"] for one in skips)
    results = _scan(tmp_path)
    failed = [f"{one['check_id']} {one['resource']} {one['file_path']}" for one in results["failed_checks"]]
    assert failed == []
    assert len(results["passed_checks"]) > 1000
    needless = accepted - {one["check_id"] for one in results["skipped_checks"]}
    assert needless == set(), "these exceptions except nothing"
