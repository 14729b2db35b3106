"""Stops the synthesis of a deployment whose templates break a rule."""

from __future__ import annotations

import aws_cdk as cdk
import jsii

from infra.deployment.plan import Plan

from . import access, gpu_instances, ingress, services
from .rule import Fault, TemplateRule
from .template import Assembly

TEMPLATE_RULES: tuple[TemplateRule, ...] = (
    *gpu_instances.RULES,
    *services.RULES,
    *ingress.RULES,
    *access.RULES,
)


def find_faults(assembly: Assembly) -> list[tuple[TemplateRule, Fault]]:
    """What the rules find in the templates of a deployment."""
    return [(rule, fault) for rule in TEMPLATE_RULES for fault in rule.find(assembly)]


@jsii.implements(cdk.IPolicyValidationPlugin)
class TemplatePreflight:
    """The rules on templates as a policy-validation plugin: a fault ends the synthesis with exit status 1."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.passed = False
        """Whether the templates were checked, and kept every rule."""

    @property
    def name(self) -> str:
        """Name of the plugin in the report."""
        return "tandem-preflight"

    @property
    def version(self) -> str:
        """Version of the plugin in the report."""
        return "1"

    @property
    def rule_ids(self) -> list[str]:
        """The rules, as the report names them."""
        return [rule.name for rule in TEMPLATE_RULES]

    def validate(self, context: cdk.IPolicyValidationContext) -> cdk.PolicyValidationPluginReport:
        """Checks the templates that were synthesized."""
        faults = find_faults(Assembly.read(context.template_paths, self._plan))
        self.passed = not faults
        violations = [
            cdk.PolicyViolation(
                rule_name=rule.name,
                description=fault.message,
                severity="high",
                violating_resources=[
                    cdk.PolicyViolatingResource(
                        resource_logical_id=fault.resource.logical_id,
                        template_path=fault.resource.template,
                        locations=[],
                    )
                ],
            )
            for rule, fault in faults
        ]
        return cdk.PolicyValidationPluginReport(success=not faults, violations=violations)
