"""CloudFormation's schema is checked at synth, and once per template."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.template_checks.plugin import TemplatePreflight
from infra.template_checks.schema import find
from tests.infra.synthesis import VARIANTS, plan_of, synthesize
from tests.infra.template_checks.faults.schema import SCHEMA_FAULTS
from tests.infra.template_checks.mutations import Mutation


def written(directory: Path, template: Any) -> str:
    path = directory / "serving.template.json"
    path.write_text(json.dumps(template))
    return str(path)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stack", ["foundation", "serving"])
def test_every_variant_is_accepted(variant: str, stack: str, tmp_path: Path) -> None:
    synthesis = synthesize(variant)
    region = synthesis.plan.deployment.region or "us-east-1"
    path = written(tmp_path, getattr(synthesis, stack))
    assert find([path], region=region, cache=tmp_path / "cache") == []


@pytest.mark.parametrize("fault", SCHEMA_FAULTS, ids=lambda fault: fault.name)
def test_what_cloudformation_would_reject_is_found_with_its_resource(fault: Mutation, tmp_path: Path) -> None:
    templates = {"serving": json.loads(json.dumps(synthesize("default").serving))}
    fault.change(templates)
    path = written(tmp_path, templates["serving"])
    cache = tmp_path / "cache"
    for _ in range(2):  # what was found is found again
        (finding, *_rest) = find([path], region="us-east-1", cache=cache)
        assert finding.rule == fault.rule
        assert templates["serving"]["Resources"][finding.place.logical_id]["Type"] == "AWS::ECS::Service"
        assert finding.message.partition(":")[0] in ("DesiredCount", "ServiceRegistries", "DesiredCounts")
    assert not cache.exists()


@pytest.mark.parametrize("fault", SCHEMA_FAULTS, ids=lambda fault: fault.name)
def test_rules_are_not_confused_by_what_the_schema_rejects(fault: Mutation, tmp_path: Path) -> None:
    templates = {"serving": json.loads(json.dumps(synthesize("default").serving))}
    fault.change(templates)
    context = SimpleNamespace(template_paths=[written(tmp_path, templates["serving"])])
    preflight = TemplatePreflight(plan_of("default"))
    report = preflight.validate(context)
    assert (report.success, preflight.passed) == (False, False)
    assert {violation.rule_name for violation in report.violations} == {fault.rule}


def test_accepted_template_is_not_checked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, synthesize("default").foundation)
    find([path], region="us-east-1", cache=tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "cfnlint.api", None)  # an import of it raises an error now
    assert find([path], region="us-east-1", cache=tmp_path / "cache") == []
    with pytest.raises(ImportError):
        find([path], region="eu-west-1", cache=tmp_path / "cache")
    with pytest.raises(ImportError):
        find([written(tmp_path, {"Resources": {}})], region="us-east-1", cache=tmp_path / "cache")


def test_cache_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()  # a file where the directory would be
    path = written(tmp_path, synthesize("default").foundation)
    assert find([path], region="us-east-1", cache=tmp_path / "cache") == []
