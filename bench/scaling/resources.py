"""The alarms, policies and limits that scale a deployment's engines, as a template has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Properties = Mapping[str, Any]


@dataclass(frozen=True)
class Metric:
    """One metric of an alarm's expression."""

    name: str
    statistic: str
    period: int


@dataclass(frozen=True)
class Alarm:
    """An alarm on metric math.

    Attributes:
        actions: the policies that it calls.
    """

    name: str
    expression: str
    metrics: Mapping[str, Metric]
    periods: int
    points_to_alarm: int
    threshold: float
    comparison: str
    missing: str
    actions: tuple[str, ...]

    @property
    def period(self) -> int:
        """The length of a period in seconds."""
        return max(metric.period for metric in self.metrics.values())

    @classmethod
    def of(cls, name: str, properties: Properties, actions: Iterable[str]) -> Alarm:
        """Reads the properties of an alarm, which are the same in CloudFormation and in the API."""
        parts = properties["Metrics"]
        (expression,) = (one["Expression"] for one in parts if "Expression" in one)
        metrics = {
            one["Id"]: Metric(
                one["MetricStat"]["Metric"]["MetricName"],
                one["MetricStat"]["Stat"],
                int(one["MetricStat"]["Period"]),
            )
            for one in parts
            if "MetricStat" in one
        }
        periods = int(properties["EvaluationPeriods"])
        return cls(
            name,
            expression,
            metrics,
            periods,
            int(properties.get("DatapointsToAlarm") or periods),
            float(properties["Threshold"]),
            properties["ComparisonOperator"],
            properties.get("TreatMissingData", "missing"),
            tuple(actions),
        )


@dataclass(frozen=True)
class Step:
    """A change of the capacity, and the distances from the alarm's threshold that it applies for."""

    lower: float | None
    upper: float | None
    change: int


@dataclass(frozen=True)
class Policy:
    """A step scaling policy."""

    name: str
    exact: bool
    cooldown: float
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, name: str, configuration: Properties) -> Policy:
        """Reads the configuration of a policy.

        Raises:
            ValueError: the policy adjusts in percent.
        """
        kind = configuration["AdjustmentType"]
        if kind not in ("ExactCapacity", "ChangeInCapacity"):
            raise ValueError(f"the policy {name} has the adjustment type {kind}, which is not simulated")
        steps = tuple(
            Step(
                _number(one.get("MetricIntervalLowerBound")),
                _number(one.get("MetricIntervalUpperBound")),
                int(one["ScalingAdjustment"]),
            )
            for one in configuration["StepAdjustments"]
        )
        return cls(name, kind == "ExactCapacity", float(configuration.get("Cooldown") or 0), steps)


@dataclass(frozen=True)
class ScheduledAction:
    """Limits that apply from a time on."""

    cron: str
    time_zone: str
    least: int | None
    most: int | None


@dataclass(frozen=True)
class Resources:
    """All that scales the engines of one deployment."""

    least: int
    most: int
    alarms: tuple[Alarm, ...]
    policies: Mapping[str, Policy]
    schedule: tuple[ScheduledAction, ...]

    @classmethod
    def of_template(cls, template: Properties) -> Resources:
        """Reads the resources of a synthesized serving stack."""
        resources = template["Resources"]
        policies = {
            name: Policy.of(name, one["Properties"]["StepScalingPolicyConfiguration"])
            for name, one in _of_type(resources, "AWS::ApplicationAutoScaling::ScalingPolicy")
            if "StepScalingPolicyConfiguration" in one["Properties"]
        }
        targets = {resources[name]["Properties"]["ScalingTargetId"]["Ref"]: None for name in policies}
        (target,) = targets or [None]
        if target is None:
            raise ValueError("the template has no step scaling policy, so its engines do not scale")
        limits = resources[target]["Properties"]
        alarms = []
        for name, one in _of_type(resources, "AWS::CloudWatch::Alarm"):
            called = _policies(one["Properties"].get("AlarmActions", []), policies)
            if called:
                alarms.append(Alarm.of(name, one["Properties"], called))
        return cls(
            int(limits["MinCapacity"]),
            int(limits["MaxCapacity"]),
            tuple(alarms),
            policies,
            tuple(_scheduled(one) for one in limits.get("ScheduledActions", [])),
        )

    @classmethod
    def of_account(
        cls,
        targets: Iterable[Properties],
        policies: Iterable[Properties],
        alarms: Iterable[Properties],
    ) -> Resources:
        """Reads what AWS describes of the one target that has step scaling policies; not its schedule.

        Raises:
            ValueError: no target has any, or several have.
        """
        steps = [one for one in policies if one["PolicyType"] == "StepScaling"]
        resources = {one["ResourceId"] for one in steps}
        found = [one for one in targets if one["ResourceId"] in resources]
        if len(found) != 1:
            raise ValueError(f"{len(found)} targets have step scaling policies; expected one")
        known = {
            one["PolicyARN"]: Policy.of(one["PolicyName"], one["StepScalingPolicyConfiguration"])
            for one in steps
        }
        scaling = []
        for one in alarms:
            called = [name for name in one.get("AlarmActions", []) if name in known]
            if called:
                scaling.append(Alarm.of(one["AlarmName"], one, called))
        return cls(int(found[0]["MinCapacity"]), int(found[0]["MaxCapacity"]), tuple(scaling), known, ())


def _policies(actions: Iterable[str | Properties], policies: Properties) -> list[str]:
    """Those policies that an alarm calls: it may also call functions, and topics by their ARNs."""
    names = [str(action.get("Ref")) for action in actions if not isinstance(action, str)]
    return [name for name in names if name in policies]


def _scheduled(action: Properties) -> ScheduledAction:
    limits = action["ScalableTargetAction"]
    return ScheduledAction(
        action["Schedule"],
        action.get("Timezone", "UTC"),
        limits.get("MinCapacity"),
        limits.get("MaxCapacity"),
    )


def _of_type(resources: Properties, kind: str) -> list[tuple[str, Properties]]:
    return [(name, one) for name, one in resources.items() if one["Type"] == kind]


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
