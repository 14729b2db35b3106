"""Every rule finds the faults that it is for, and finds none where there are none."""

from __future__ import annotations

import json

import pytest

from infra.template_checks.plugin import TEMPLATE_RULES, find
from infra.template_checks.template import Assembly
from tests.infra.synthesis import VARIANTS, synthesize
from tests.infra.template_checks.faults import FAULTS
from tests.infra.template_checks.mutations import Mutation


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_variant_breaks_a_rule(variant: str) -> None:
    findings = find(synthesize(variant).assembly())
    assert [(one.rule, one.place.logical_id, one.message) for one in findings] == []


@pytest.mark.parametrize("mutation", FAULTS, ids=lambda mutation: mutation.name)
def test_seeded_fault_is_found(mutation: Mutation) -> None:
    synthesis = synthesize(mutation.variant)
    templates = json.loads(json.dumps({"foundation": synthesis.foundation, "serving": synthesis.serving}))
    mutation.change(templates)
    findings = find(Assembly(templates, synthesis.plan))
    assert mutation.rule in {finding.rule for finding in findings}
    for finding in findings:
        assert finding.message
        assert finding.place.logical_id


def test_every_rule_has_a_seeded_fault() -> None:
    assert {mutation.rule for mutation in FAULTS} == {rule.name for rule in TEMPLATE_RULES}


def test_every_rule_says_what_it_is_for() -> None:
    for rule in TEMPLATE_RULES:
        assert rule.title.endswith(".")
