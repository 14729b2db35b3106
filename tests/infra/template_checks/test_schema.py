"""CloudFormation's schema is checked at synth, and once per template."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.template_checks import schema
from infra.template_checks.schema import find
from tests.infra.synthesis import VARIANTS, synthesize


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


def _misspell(service: Any) -> None:
    service["Properties"]["DesiredCounts"] = 1


def _use_text(service: Any) -> None:
    service["Properties"]["DesiredCount"] = "three"


def _forget(service: Any) -> None:
    service["Properties"]["ServiceRegistries"] = "none"


@pytest.mark.parametrize(
    ("change", "message"),
    [(_misspell, "DesiredCounts"), (_use_text, "DesiredCount: 'three'"), (_forget, "ServiceRegistries")],
)
def test_what_cloudformation_would_reject_is_found_with_its_resource(
    change: Callable[[Any], None], message: str, tmp_path: Path
) -> None:
    template = json.loads(json.dumps(synthesize("default").serving))
    services = {
        name: body for name, body in template["Resources"].items() if body["Type"] == "AWS::ECS::Service"
    }
    name = next(iter(services))
    change(services[name])
    path = written(tmp_path, template)
    cache = tmp_path / "cache"
    for _ in range(2):  # what was found is found again
        (finding, *_rest) = find([path], region="us-east-1", cache=cache)
        assert (finding.rule, finding.place.logical_id) == (schema.RULE, name)
        assert message in finding.message
    assert not cache.exists()


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
