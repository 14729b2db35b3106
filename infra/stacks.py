"""The two stacks of a deployment."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from .deployment.plan import Plan
from .foundation.stack import FoundationStack
from .serving.stack import ServingStack
from .template_checks.plugin import TemplatePreflight


def build_stacks(app: cdk.App, plan: Plan) -> TemplatePreflight:
    """Adds both stacks, their tags and the template checks to an app."""
    deployment = plan.deployment
    # No account is set: with one, synthesis would query AWS for its zones.
    env = cdk.Environment(region=deployment.region) if deployment.region else None
    foundation = FoundationStack(app, f"{deployment.name}-foundation", deployment=deployment, env=env)
    ServingStack(app, f"{deployment.name}-serving", plan=plan, foundation=foundation, env=env)
    if deployment.permissions_boundary_arn:
        policy = iam.ManagedPolicy.from_managed_policy_arn(
            foundation, "PermissionsBoundary", deployment.permissions_boundary_arn
        )
        # It also covers the roles of the CDK's own custom resources.
        iam.PermissionsBoundary.of(app).apply(policy)
    for key, value in deployment.tags.items():
        cdk.Tags.of(app).add(key, value)
    preflight = TemplatePreflight(plan)
    cdk.Validations.of(app).add_plugins(preflight)
    return preflight
