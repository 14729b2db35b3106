"""Auto scaling of the engines by the requests that they run, queue or miss: docs/decisions/0024."""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.deployment.cron import parse_cron
from infra.deployment.plan import Plan
from infra.deployment.schedule import limits_of

from .engine import Engine
from .gpu_instances import GpuCapacity
from .metrics import DeploymentMetrics

_FAST, _SLOW = 10, 60
"""Periods in seconds: of what starts an engine, for which somebody waits, and of what stops one."""

_DOWN_MINUTES = 15
_UP_PERIODS = 3


class EngineScaling(Construct):
    """Runs between the minimum and the maximum number of engines. Only its policies decide how many.

    Attributes:
        target: The number of engines, as Application Auto Scaling knows it.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        engine: Engine,
        capacity: GpuCapacity,
        cluster_name: str,
        plan: Plan,
    ) -> None:
        super().__init__(scope, construct_id)
        self._plan = plan
        self._capacity = capacity
        self._metrics = DeploymentMetrics(plan.deployment)
        self.target = self._target(engine, cluster_name)
        limits = plan.limits
        if plan.sleeps:
            self._wake()
            self._idle()
        if 1 < limits.most != limits.least:
            self._up()
            self._down()
        self._schedule()

    def _target(self, engine: Engine, cluster_name: str) -> scaling.ScalableTarget:
        gpu = self._plan.deployment.gpu
        return scaling.ScalableTarget(
            self,
            "Target",
            service_namespace=scaling.ServiceNamespace.ECS,
            resource_id=f"service/{cluster_name}/{engine.service.service_name}",
            scalable_dimension="ecs:service:DesiredCount",
            min_capacity=gpu.least,
            max_capacity=gpu.most,
            role=iam.Role.from_role_arn(self, "Role", self._service_role()),
        )

    def _service_role(self) -> str:
        return cdk.Stack.of(self).format_arn(
            service="iam",
            region="",
            resource="role/aws-service-role/ecs.application-autoscaling.amazonaws.com",
            resource_name="AWSServiceRoleForApplicationAutoScaling_ECSService",
        )

    def _wake(self) -> None:
        """Starts one engine when there are requests and none answers, however long its start takes."""
        alarm = self._alarm("Wake", "IF(up < 1, demand, 0)", at_least=1, seconds=_FAST, periods=1)
        self._set(alarm, "Wake", 1)

    def _up(self) -> None:
        start = cdk.Duration.seconds(self._plan.start_seconds)
        expression = "IF(up > 0, demand / up, 0)"
        alarm = self._alarm(
            "Up", expression, more_than=self._plan.scale_up_at, seconds=_FAST, periods=_UP_PERIODS
        )
        self._change(alarm, "Up", 1, cooldown=start)

    def _down(self) -> None:
        """Stops an engine when several are not busy. The last one is stopped only when it is idle."""
        least_busy = self._plan.scale_down_at
        expression = f"IF(up > 1, demand / up, {least_busy:g})"
        alarm = self._alarm("Down", expression, less_than=least_busy, seconds=_SLOW, periods=_DOWN_MINUTES)
        self._change(alarm, "Down", -1, cooldown=cdk.Duration.minutes(_DOWN_MINUTES))

    def _idle(self) -> None:
        """Stops every engine when there were no requests for a while.

        While none runs, the alarms are not raised, so that they cannot undo what `_wake` has just done.
        """
        minutes = self._plan.deployment.gpu.idle_minutes
        alarm = self._alarm("Idle", "IF(up > 0, demand, 1)", less_than=1, seconds=_SLOW, periods=minutes)
        self._set(alarm, "Idle", 0)
        instances = self._capacity.instances(cdk.Duration.seconds(_SLOW))
        unused = self._alarm(
            "Unused",
            "IF(up > 0, 1, IF(instances > 0, demand, 1))",
            less_than=1,
            seconds=_SLOW,
            periods=self._plan.unused_minutes,
            others={"instances": instances.with_(statistic=cloudwatch.Stats.MAXIMUM)},
        )
        self._set(unused, "Unused", 0)

    def _schedule(self) -> None:
        gpu = self._plan.deployment.gpu
        for number, entry in enumerate(gpu.schedule, 1):
            limits = limits_of(entry, gpu)
            self.target.scale_on_schedule(
                f"Schedule{number}",
                schedule=scaling.Schedule.expression(parse_cron(entry.cron).aws()),
                time_zone=cdk.TimeZone.of(entry.time_zone),
                min_capacity=limits.least,
                max_capacity=limits.most,
            )

    def _alarm(
        self,
        name: str,
        expression: str,
        *,
        seconds: int,
        periods: int,
        at_least: float | None = None,
        more_than: float | None = None,
        less_than: float | None = None,
        others: Mapping[str, cloudwatch.IMetric] | None = None,
    ) -> cloudwatch.Alarm:
        compare = cloudwatch.ComparisonOperator
        operator, threshold = next(
            (operator, value)
            for operator, value in (
                (compare.GREATER_THAN_OR_EQUAL_TO_THRESHOLD, at_least),
                (compare.GREATER_THAN_THRESHOLD, more_than),
                (compare.LESS_THAN_THRESHOLD, less_than),
            )
            if value is not None
        )
        return cloudwatch.Alarm(
            self,
            f"{name}Alarm",
            alarm_description="For scaling, not for people: docs/scaling.md.",
            metric=self._metrics.math(expression, name, seconds=seconds, others=others),
            comparison_operator=operator,
            threshold=threshold,
            evaluation_periods=periods,
            # Nothing is known without the orchestrator's metrics, so nothing changes.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )

    def _change(self, alarm: cloudwatch.Alarm, name: str, adjustment: int, *, cooldown: cdk.Duration) -> None:
        action = self._policy(name, scaling.AdjustmentType.CHANGE_IN_CAPACITY, cooldown=cooldown)
        if adjustment > 0:
            action.add_adjustment(adjustment=adjustment, lower_bound=0)
        else:
            action.add_adjustment(adjustment=adjustment, upper_bound=0)
        alarm.add_alarm_action(actions.ApplicationScalingAction(action))

    def _set(self, alarm: cloudwatch.Alarm, name: str, engines: int) -> None:
        """Sets the number of engines while an alarm is raised, which may last: the number stays the same."""
        action = self._policy(name, scaling.AdjustmentType.EXACT_CAPACITY, cooldown=cdk.Duration.seconds(0))
        if engines:
            action.add_adjustment(adjustment=engines, lower_bound=0)
        else:
            action.add_adjustment(adjustment=0, upper_bound=0)
        alarm.add_alarm_action(actions.ApplicationScalingAction(action))

    def _policy(
        self, name: str, adjustment_type: scaling.AdjustmentType, *, cooldown: cdk.Duration
    ) -> scaling.StepScalingAction:
        return scaling.StepScalingAction(
            self,
            f"{name}Policy",
            scaling_target=self.target,
            adjustment_type=adjustment_type,
            cooldown=cooldown,
            metric_aggregation_type=scaling.MetricAggregationType.MAXIMUM,
        )
