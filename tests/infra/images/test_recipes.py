"""What the images are built from."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import aws_cdk as cdk
import pytest

import infra.images.recipes
from infra.images.recipes import ORCHESTRATOR, SERVICES, TOOLS_REQUIREMENTS, VLLM, Recipe
from infra.stacks import build_stacks
from tests.infra.synthesis import plan_of, synthesize


@pytest.mark.parametrize("recipe", [ORCHESTRATOR, VLLM], ids=lambda recipe: recipe.service)
def test_recipe_has_what_the_dockerfile_copies(recipe: Recipe) -> None:
    dockerfile = (SERVICES / recipe.service / "Dockerfile").read_text()
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, flags=re.M)
        for source in line.split()[:-1]
    }
    # `x.tx[t]` is how a Dockerfile names a file that may be missing.
    assert {*recipe.files} == {"Dockerfile", *(name.replace("[t]", "t") for name in copied)}
    for name in recipe.arguments:
        assert f"ARG {name}=" in dockerfile


@pytest.mark.parametrize("tier", ["Orchestrator", "Engine"])
def test_asset_holds_the_recipe_and_no_more(tier: str) -> None:
    synthesis = synthesize("default")
    recipe = {"Orchestrator": ORCHESTRATOR, "Engine": VLLM}[tier]
    [image] = [
        body["Properties"]
        for name, body in synthesis.serving["Resources"].items()
        if body["Type"] == "Custom::ContainerImage" and tier in name
    ]
    [digest] = re.findall(r"[0-9a-f]{64}", json.dumps(image["Source"]))
    directory = synthesis.directory / f"asset.{digest}"
    files = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert {name.split("/")[0] for name in files} == {*recipe.files} - {TOOLS_REQUIREMENTS}
    assert not [name for name in files if name.endswith(".pyc")]


def _templates(services: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(infra.images.recipes, "SERVICES", services)
    app = cdk.App(outdir=str(directory))
    build_stacks(app, plan_of("default"))
    app.synth()
    return {
        name: json.dumps(body, sort_keys=True)
        for stack in ("foundation", "serving")
        for name, body in json.loads((directory / f"tandem-{stack}.template.json").read_text())[
            "Resources"
        ].items()
    }


def test_code_of_the_orchestrator_changes_its_build_and_task_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = tmp_path / "services"
    for recipe in (ORCHESTRATOR, VLLM):
        shutil.copytree(
            SERVICES / recipe.service,
            services / recipe.service,
            ignore=shutil.ignore_patterns("__pycache__", "*.pyc"),
        )
    before = _templates(services, tmp_path / "before", monkeypatch)
    tool = services / "orchestrator/orchestrator/tools/calculator.py"
    tool.write_text(tool.read_text() + "\n# changed\n")
    after = _templates(services, tmp_path / "after", monkeypatch)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    kinds = sorted(json.loads(after[name])["Type"] for name in changed)
    # The policy is that of the build, which names the source that it may read.
    assert kinds == ["AWS::ECS::TaskDefinition", "AWS::IAM::Policy", "Custom::ContainerImage"]
    assert all("Orchestrator" in name for name in changed)


def test_tag_changes_with_arguments_and_architecture() -> None:
    tags = {
        ORCHESTRATOR.tag("source", "x86_64"),
        ORCHESTRATOR.tag("source", "arm64"),
        ORCHESTRATOR.tag("other", "x86_64"),
        VLLM.tag("source", "x86_64"),
    }
    assert len(tags) == 4
