"""Every rule finds the faults that it is for, and finds none where there are none."""

from __future__ import annotations

import json

import pytest

from infra.template_checks.plugin import TEMPLATE_RULES, find_faults
from infra.template_checks.template import Assembly
from tests.infra.synthesis import VARIANTS, synthesize
from tests.infra.template_checks.faults import FAULTS
from tests.infra.template_checks.mutations import Mutation


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_variant_breaks_a_rule(variant: str) -> None:
    faults = find_faults(synthesize(variant).assembly())
    assert [(rule.name, fault.resource.logical_id, fault.message) for rule, fault in faults] == []


@pytest.mark.parametrize("mutation", FAULTS, ids=lambda mutation: mutation.name)
def test_seeded_fault_is_found(mutation: Mutation) -> None:
    synthesis = synthesize(mutation.variant)
    templates = json.loads(json.dumps({"foundation": synthesis.foundation, "serving": synthesis.serving}))
    mutation.change(templates)
    faults = find_faults(Assembly(templates, synthesis.plan))
    assert mutation.rule in {rule.name for rule, _ in faults}
    for _, fault in faults:
        assert fault.message
        assert fault.resource.logical_id


def test_every_rule_has_a_seeded_fault() -> None:
    assert {mutation.rule for mutation in FAULTS} == {rule.name for rule in TEMPLATE_RULES}


def test_every_rule_says_what_it_is_for() -> None:
    for rule in TEMPLATE_RULES:
        assert rule.title.endswith(".")
