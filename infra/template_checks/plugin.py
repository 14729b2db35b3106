"""Stops synthesis if a template breaks a rule."""

from __future__ import annotations

import aws_cdk as cdk
import jsii

from infra.deployment.checks.rule import Finding, Rule
from infra.deployment.plan import Plan

from . import (
    access,
    alarms,
    builds,
    capacity,
    engine_scaling,
    firewall,
    gpu_instances,
    ingress,
    model_files,
    models,
    network,
    roles,
    schema,
    security_groups,
    services,
    tools,
    traces,
    user_data,
    warm_pool,
)
from .one_model import each_model
from .template import Assembly, Resource

MODEL_RULES: tuple[Rule[Assembly, Resource], ...] = (
    *gpu_instances.RULES,
    *capacity.RULES,
    *engine_scaling.RULES,
    *user_data.RULES,
    *warm_pool.RULES,
    *services.RULES,
    *alarms.RULES,
    *model_files.RULES,
)
"""Rules on the engines of one model and the orchestrator in front of them."""

TEMPLATE_RULES: tuple[Rule[Assembly, Resource], ...] = (
    *MODEL_RULES,
    *models.RULES,
    *ingress.RULES,
    *firewall.RULES,
    *network.RULES,
    *security_groups.RULES,
    *builds.RULES,
    *roles.RULES,
    *tools.RULES,
    *traces.RULES,
    *access.RULES,
)

_ANY_REGION = "us-east-1"
"""The region whose schema is used where the deployment file names none."""


def find(assembly: Assembly) -> list[Finding[Resource]]:
    """Returns the rules' findings in a deployment's templates."""
    found = [finding for seen in each_model(assembly) for rule in MODEL_RULES for finding in rule.find(seen)]
    others = [rule for rule in TEMPLATE_RULES if rule not in MODEL_RULES]
    found += [finding for rule in others for finding in rule.find(assembly)]
    return list(dict.fromkeys(found))


@jsii.implements(cdk.IPolicyValidationPlugin)
class TemplatePreflight:
    """The template rules as a policy-validation plugin. A finding stops synthesis with status 1."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.passed = False
        """Whether the templates were checked without findings."""

    @property
    def name(self) -> str:
        """The plugin's name in the report."""
        return "tandem-preflight"

    @property
    def version(self) -> str:
        """The plugin's version in the report."""
        return "1"

    @property
    def rule_ids(self) -> list[str]:
        """The rules, as the report names them."""
        return [*(rule.name for rule in TEMPLATE_RULES), schema.RULE]

    def validate(self, context: cdk.IPolicyValidationContext) -> cdk.PolicyValidationPluginReport:
        """Checks the synthesized templates."""
        paths = context.template_paths
        # The rules read templates that CloudFormation's schema accepts.
        findings = schema.find(paths, region=self._plan.deployment.region or _ANY_REGION)
        findings = findings or find(Assembly.read(paths, self._plan))
        self.passed = not findings
        return cdk.PolicyValidationPluginReport(
            success=not findings, violations=[_violation(finding) for finding in findings]
        )


def _violation(finding: Finding[Resource]) -> cdk.PolicyViolation:
    return cdk.PolicyViolation(
        rule_name=finding.rule,
        description=finding.message,
        severity="high",
        violating_resources=[
            cdk.PolicyViolatingResource(
                resource_logical_id=finding.place.logical_id,
                template_path=finding.place.template,
                locations=[],
            )
        ],
    )
