"""Alarms for problems that need a person."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.suppressions import accept

from .engine import Engine
from .ingress.load_balancer import Ingress
from .orchestrator import Orchestrator

ENGINE_FAILURES = (
    '{ $.error_code = "engine_unavailable" || $.error_code = "engine_failed" || '
    '$.error_code = "deadline_exceeded" }'
)
"""Log lines of requests that no engine answered."""

_MINUTE = cdk.Duration.minutes(1)


class Monitoring(Construct):
    """Four alarms, sent to an address if one is given."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        engine: Engine,
        orchestrator: Orchestrator,
        ingress: Ingress,
        email: str | None,
    ) -> None:
        super().__init__(scope, construct_id)
        alarms = [
            self._engine_down(engine),
            self._engine_failing(orchestrator),
            self._targets_down(ingress),
            self._errors(ingress),
        ]
        if email:
            action = actions.SnsAction(self._topic(email))
            for alarm in alarms:
                alarm.add_alarm_action(action)
                alarm.add_ok_action(action)

    def _engine_down(self, engine: Engine) -> cloudwatch.Alarm:
        # Every running task reports its CPU once per minute, so no data means that no task is running.
        return cloudwatch.Alarm(
            self,
            "EngineDown",
            alarm_description="No engine runs: the events of its ECS service say why.",
            metric=engine.service.metric_cpu_utilization(
                statistic=cloudwatch.Stats.SAMPLE_COUNT, period=_MINUTE
            ),
            comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            threshold=1,
            evaluation_periods=5,
            treat_missing_data=cloudwatch.TreatMissingData.BREACHING,
        )

    def _engine_failing(self, orchestrator: Orchestrator) -> cloudwatch.Alarm:
        # A task may run and yet not answer: it loads, it hangs, or its name does not resolve.
        failures = orchestrator.logs.add_metric_filter(
            "EngineFailures",
            filter_name="engine-failures",
            filter_pattern=logs.FilterPattern.literal(ENGINE_FAILURES),
            metric_namespace=cdk.Stack.of(self).stack_name,
            metric_name="EngineFailures",
        )
        return cloudwatch.Alarm(
            self,
            "EngineFailing",
            alarm_description="Requests fail because no engine answers: make doctor and make logs say why.",
            metric=failures.metric(statistic=cloudwatch.Stats.SUM, period=_MINUTE),
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            threshold=0,
            evaluation_periods=5,
            datapoints_to_alarm=3,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )

    def _targets_down(self, ingress: Ingress) -> cloudwatch.Alarm:
        return cloudwatch.Alarm(
            self,
            "OrchestratorDown",
            alarm_description="The load balancer has less than one healthy orchestrator.",
            metric=ingress.target_group.metrics.healthy_host_count(
                statistic=cloudwatch.Stats.MINIMUM, period=_MINUTE
            ),
            comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            threshold=1,
            evaluation_periods=3,
            treat_missing_data=cloudwatch.TreatMissingData.BREACHING,
        )

    def _errors(self, ingress: Ingress) -> cloudwatch.Alarm:
        errors = ingress.target_group.metrics.http_code_target(
            elbv2.HttpCodeTarget.TARGET_5XX_COUNT, statistic=cloudwatch.Stats.SUM, period=_MINUTE
        )
        return cloudwatch.Alarm(
            self,
            "Errors",
            alarm_description="The orchestrator answers with errors of the server.",
            metric=errors,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            threshold=10,
            evaluation_periods=5,
            datapoints_to_alarm=3,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )

    def _topic(self, email: str) -> sns.Topic:
        topic = sns.Topic(self, "Alarms", enforce_ssl=True)
        # A topic with a policy of its own loses the default one, which lets CloudWatch publish.
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}},
            )
        )
        topic.add_subscription(subscriptions.EmailSubscription(email))
        accept(
            topic,
            "CKV_AWS_26",
            reason="Alarms are not secret, and CloudWatch cannot send to a topic encrypted with AWS's key.",
        )
        return topic
