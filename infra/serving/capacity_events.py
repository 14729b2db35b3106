"""Events of instances that cannot start and engines that cannot be placed, as a metric."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.suppressions import accept

PLACEMENT_FAILURES = ["SERVICE_TASK_PLACEMENT_FAILURE", "SERVICE_TASK_CONFIGURATION_FAILURE"]


class CapacityEvents(Construct):
    """Counts the events, of which there may be one per minute. The topic has them word for word."""

    def __init__(self, scope: Construct, construct_id: str, *, group_name: str, service_arn: str) -> None:
        super().__init__(scope, construct_id)
        topic = sns.Topic(self, "Events", enforce_ssl=True)
        accept(
            topic,
            "CKV_AWS_26",
            reason="Events are not secret, and EventBridge cannot send to a topic encrypted with AWS's key.",
        )
        self._rules = [
            events.Rule(
                self,
                "Launches",
                description="AWS could not start a GPU instance",
                event_pattern=events.EventPattern(
                    source=["aws.autoscaling"],
                    detail_type=["EC2 Instance Launch Unsuccessful"],
                    detail={"AutoScalingGroupName": [group_name]},
                ),
                targets=[targets.SnsTopic(topic)],
            ),
            events.Rule(
                self,
                "Placements",
                description="ECS could not place an engine",
                event_pattern=events.EventPattern(
                    source=["aws.ecs"],
                    detail_type=["ECS Service Action"],
                    resources=[service_arn],
                    detail={"eventName": PLACEMENT_FAILURES},
                ),
                targets=[targets.SnsTopic(topic)],
            ),
        ]

    def metric(self, period: cdk.Duration) -> cloudwatch.MathExpression:
        """Returns the number of events."""
        matched = {
            name: cloudwatch.Metric(
                namespace="AWS/Events",
                metric_name="TriggeredRules",
                dimensions_map={"RuleName": rule.rule_name},
                statistic=cloudwatch.Stats.SUM,
                period=period,
            )
            for name, rule in zip(("launches", "placements"), self._rules, strict=True)
        }
        return cloudwatch.MathExpression(
            # AWS reports nothing, not 0, while a rule does not match.
            expression="FILL(launches, 0) + FILL(placements, 0)",
            using_metrics=matched,
            label="Failed starts",
            period=period,
        )
