"""Faults that only CloudFormation's schema shows."""

from __future__ import annotations

from typing import Any

from infra.template_checks.schema import RULE
from tests.infra.template_checks.mutations import Change, Mutation, Templates, resources


def _service(**properties: Any) -> Change:
    def change(templates: Templates) -> None:
        resources(templates, "AWS::ECS::Service")[0]["Properties"].update(properties)

    return change


SCHEMA_FAULTS = [
    Mutation("a misspelt property", RULE, _service(DesiredCounts=1)),
    Mutation("text for a number", RULE, _service(DesiredCount="three")),
    Mutation("a value for a list", RULE, _service(ServiceRegistries="none")),
]
