"""Rules on metrics and on who gets the alarms."""

from __future__ import annotations

from infra.deployment.plan import Plan

from .rule import Found, Severity, rule


@rule(
    "slack",
    Severity.ERROR,
    lambda _: [{"metrics.slack_workspace_id": None, "metrics.slack_channel_id": None}],
)
def slack(plan: Plan) -> Found[str]:
    """A Slack channel is named together with its workspace."""
    metrics = plan.deployment.metrics
    if (metrics.slack_workspace_id is None) == (metrics.slack_channel_id is None):
        return
    given, missing = "slack_workspace_id", "slack_channel_id"
    if metrics.slack_workspace_id is None:
        given, missing = missing, given
    yield (f"metrics.{given}", f"metrics.{missing} is missing; Slack needs both")


RULES = (slack,)
