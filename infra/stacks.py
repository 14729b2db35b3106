"""Both stacks of a deployment."""

from __future__ import annotations

import aws_cdk as cdk

from .deployment.plan import Plan
from .foundation.stack import FoundationStack
from .serving.stack import ServingStack
from .template_checks.plugin import TemplatePreflight


def build_stacks(app: cdk.App, plan: Plan) -> TemplatePreflight:
    """Adds the stacks to an app, with their tags, and the check of their templates."""
    deployment = plan.deployment
    # Without an account: with one, synthesis would ask AWS for its zones.
    env = cdk.Environment(region=deployment.region) if deployment.region else None
    foundation = FoundationStack(app, f"{deployment.name}-foundation", deployment=deployment, env=env)
    ServingStack(app, f"{deployment.name}-serving", plan=plan, foundation=foundation, env=env)
    for key, value in deployment.tags.items():
        cdk.Tags.of(app).add(key, value)
    preflight = TemplatePreflight(plan)
    cdk.Validations.of(app).add_plugins(preflight)
    return preflight
