"""Alarms for problems that need a person. Each names its remedy; metrics.json has the thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.deployment.metrics import load_metrics

from .capacity_events import CapacityEvents
from .dashboard import Dashboard
from .ingress.load_balancer import Ingress
from .instance_hours import instance_hours_of_a_day, stopping_function
from .metrics import DeploymentMetrics
from .orchestrator import Orchestrator
from .recipients import Recipients
from .served_model import ServedModel

ENGINE_FAILURES = (
    '{ $.error_code = "engine_unavailable" || $.error_code = "engine_failed" || '
    '$.error_code = "deadline_exceeded" }'
)
"""Log lines of requests that no engine answered."""

_SECONDS = 60
_MINUTE = cdk.Duration.seconds(_SECONDS)
_LESS = cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD
_MORE = cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD
_BREACHING = cloudwatch.TreatMissingData.BREACHING
_NOT_BREACHING = cloudwatch.TreatMissingData.NOT_BREACHING


class Monitoring(Construct):
    """The alarms, who gets them, and the dashboard that shows them."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        served: Sequence[ServedModel],
        orchestrator: Orchestrator,
        ingress: Ingress,
    ) -> None:
        super().__init__(scope, construct_id)
        self._alarms: list[cloudwatch.Alarm] = []
        for one in served:
            self._engines(one)
        self._engine_failing(orchestrator)
        for one in served:
            self._no_capacity(one)
        self._targets_down(ingress)
        self._errors(ingress)
        for one in served:
            self._use(one)
        Dashboard(self, "Dashboard", served=served, alarms=self._alarms, ingress=ingress)
        # `Default` is not part of names, so the topic is the one of earlier releases.
        self._send(Recipients(self, "Default", metrics=served[0].plan.deployment.metrics))

    def _engines(self, one: ServedModel) -> None:
        if one.plan.limits.least > 0:
            self._engine_down(one)
        self._demand_without_engine(one)

    def _use(self, one: ServedModel) -> None:
        if one.plan.deployment.gpu.max_instance_hours_per_day is not None:
            self._instance_hours(one)
        metrics = DeploymentMetrics(one.plan.deployment)
        for name in ("FirstTokenSlow", "Rejected", "KvCacheFull", "Preempted", "ToolsFail"):
            metric = metrics.metric(load_metrics().alarms[name].metric, seconds=_SECONDS)
            self._alarm(name, metric, of_five=3, label=one.plan.label)

    def _send(self, recipients: Recipients) -> None:
        for alarm in self._alarms:
            for topic in recipients.topics:
                action = actions.SnsAction(topic)
                alarm.add_alarm_action(action)
                alarm.add_ok_action(action)

    def _alarm(
        self,
        name: str,
        metric: cloudwatch.IMetric,
        *,
        compare: cloudwatch.ComparisonOperator = _MORE,
        missing: cloudwatch.TreatMissingData = _NOT_BREACHING,
        minutes: int | None = None,
        of_five: int | None = None,
        threshold: float | None = None,
        label: str = "",
    ) -> cloudwatch.Alarm:
        """Adds an alarm of metrics.json; `of_five` of five minutes are enough where single minutes vary."""
        one = load_metrics().alarms[name]
        periods = minutes or one.minutes
        alarm = cloudwatch.Alarm(
            self,
            f"{name}{label}",
            alarm_description=f"{one.summary} {one.remedy}",
            metric=metric,
            comparison_operator=compare,
            threshold=one.threshold if threshold is None else threshold,
            evaluation_periods=periods,
            datapoints_to_alarm=of_five if periods == 5 else None,
            treat_missing_data=missing,
        )
        self._alarms.append(alarm)
        return alarm

    def _engine_down(self, one: ServedModel) -> None:
        # Every running task reports its CPU once per minute, so no data means that no task is running.
        metric = one.engine.service.metric_cpu_utilization(
            statistic=cloudwatch.Stats.SAMPLE_COUNT, period=_MINUTE
        )
        self._alarm("EngineDown", metric, compare=_LESS, missing=_BREACHING, label=one.plan.label)

    def _demand_without_engine(self, one: ServedModel) -> None:
        # Where engines may sleep, it is normal that none runs, but not that a start takes too long.
        minutes = math.ceil(one.plan.deployment.gpu.startup_seconds / _SECONDS)
        metrics = DeploymentMetrics(one.plan.deployment)
        metric = metrics.math("IF(up < 1, demand, 0)", "Demand without an engine", seconds=_SECONDS)
        at_least = cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
        self._alarm("DemandWithoutEngine", metric, compare=at_least, minutes=minutes, label=one.plan.label)

    def _engine_failing(self, orchestrator: Orchestrator) -> None:
        # A task may run and yet not answer: it loads, it hangs, or its name does not resolve.
        failures = orchestrator.logs.add_metric_filter(
            "EngineFailures",
            filter_name="engine-failures",
            filter_pattern=logs.FilterPattern.literal(ENGINE_FAILURES),
            metric_namespace=cdk.Stack.of(self).stack_name,
            metric_name="EngineFailures",
        )
        metric = failures.metric(statistic=cloudwatch.Stats.SUM, period=_MINUTE)
        self._alarm("EngineFailing", metric, of_five=3)

    def _no_capacity(self, one: ServedModel) -> None:
        events = CapacityEvents(
            self,
            f"CapacityEvents{one.plan.label}",
            group_name=one.capacity.group_name,
            service_arn=one.engine.service.service_arn,
        )
        self._alarm("NoCapacity", events.metric(_MINUTE), of_five=1, label=one.plan.label)

    def _instance_hours(self, one: ServedModel) -> None:
        limit = one.plan.deployment.gpu.max_instance_hours_per_day
        hours = instance_hours_of_a_day(one.capacity)
        alarm = self._alarm("InstanceHours", hours, threshold=limit, label=one.plan.label)
        cluster = one.engine.service.cluster.cluster_name
        function = stopping_function(self, engine=one.engine, cluster_name=cluster, plan=one.plan)
        alarm.add_alarm_action(actions.LambdaAction(function))

    def _targets_down(self, ingress: Ingress) -> None:
        healthy = ingress.target_group.metrics.healthy_host_count(
            statistic=cloudwatch.Stats.MINIMUM, period=_MINUTE
        )
        self._alarm("OrchestratorDown", healthy, compare=_LESS, missing=_BREACHING)

    def _errors(self, ingress: Ingress) -> None:
        errors = ingress.target_group.metrics.http_code_target(
            elbv2.HttpCodeTarget.TARGET_5XX_COUNT, statistic=cloudwatch.Stats.SUM, period=_MINUTE
        )
        self._alarm("Errors", errors, of_five=3)
