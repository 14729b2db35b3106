"""Rules on alarms and on the dashboard: what they read, and what they say."""

from __future__ import annotations

import re

from infra.deployment.checks.rule import Found, rule
from infra.deployment.metrics import load_metrics

from .engine_scaling import ALARM, alarms_of, step_policies
from .gpu_instances import engine_services
from .services import orchestrator_services
from .template import Assembly, Resource, container


def alarms_for_people(assembly: Assembly) -> list[Resource]:
    """Returns the alarms that scale nothing."""
    scaling = [alarm for policy in step_policies(assembly) for alarm in alarms_of(assembly, policy)]
    return [alarm for alarm in assembly.of_kind(ALARM) if alarm not in scaling]


@rule("T-engine-alarms")
def engine_alarms(assembly: Assembly) -> Found[Resource]:
    """An alarm is raised if no engine runs that should, and if requests fail because none answers."""
    alarms = alarms_for_people(assembly)
    for service, _ in engine_services(assembly):
        running = [one for one in alarms if service in assembly.targets(one.template, one.get("Dimensions"))]
        always_on = assembly.plan.limits.least > 0
        if always_on and not running:
            yield (service, "no alarm is raised when none of its tasks runs")
        if not always_on:
            yield from ((one, "it is raised whenever engines sleep, which is normal") for one in running)
        if not any(_is_unmet_demand(one) for one in alarms):
            yield (service, "no alarm is raised when there is demand and no engine answers")
    yield from _failing(assembly, alarms)


def _is_unmet_demand(alarm: Resource) -> bool:
    names = {
        one.get("MetricStat", {}).get("Metric", {}).get("MetricName") for one in alarm.get("Metrics", [])
    }
    return {"EngineDemand", "HeldDemand", "EnginesUp"} <= names


def _failing(assembly: Assembly, alarms: list[Resource]) -> Found[Resource]:
    filters = assembly.of_kind("AWS::Logs::MetricFilter")
    for service, task in orchestrator_services(assembly):
        options = container(task).get("LogConfiguration", {}).get("Options", {})
        group = assembly.target(task.template, options.get("awslogs-group"))
        metrics = {
            (change["MetricNamespace"], change["MetricName"])
            for one in filters
            if assembly.follow(one, "LogGroupName") == group
            and "engine_unavailable" in one.get("FilterPattern")
            for change in one.get("MetricTransformations")
        }
        if not any((one.get("Namespace"), one.get("MetricName")) in metrics for one in alarms):
            yield (service, "no alarm is raised when its requests fail because no engine answers")


@rule("T-alarm-remedy")
def alarm_remedy(assembly: Assembly) -> Found[Resource]:
    """Every alarm for people has the text, with the remedy, and the threshold of metrics.json."""
    known = {f"{one.summary} {one.remedy}": one for one in load_metrics().alarms.values()}
    for alarm in alarms_for_people(assembly):
        text = str(alarm.get("AlarmDescription"))
        if text not in known:
            yield (alarm, f"metrics.json has no alarm that says: {text}")
            continue
        wanted = known[text].threshold
        if known[text] == load_metrics().alarms["InstanceHours"]:
            wanted = assembly.plan.deployment.gpu.max_instance_hours_per_day or 0
        if alarm.number("Threshold", 0) != wanted:
            yield (alarm, f"its threshold is {alarm.get('Threshold')}, not {wanted:g}")


@rule("T-alarm-recipients")
def alarm_recipients(assembly: Assembly) -> Found[Resource]:
    """Alarms for people are sent to whom the deployment file names, when raised and when over."""
    metrics = assembly.plan.deployment.metrics
    wanted = bool(metrics.alarm_email or metrics.slack_channel_id) + bool(metrics.alarm_topic_arn)
    for alarm in alarms_for_people(assembly):
        for name in ("AlarmActions", "OKActions"):
            actions = alarm.get(name, [])
            functions = sum(
                one.kind == "AWS::Lambda::Function" for one in assembly.targets(alarm.template, actions)
            )
            if (count := len(actions) - functions) != wanted:
                yield (alarm, f"{name} has {count} topics; the settings of metrics ask for {wanted}")


@rule("T-instance-hours")
def instance_hours(assembly: Assembly) -> Found[Resource]:
    """The limit of instance hours stops the engines: its alarm invokes the function that does."""
    if assembly.plan.deployment.gpu.max_instance_hours_per_day is None:
        return
    for service, _ in engine_services(assembly):
        invoked = [
            function
            for alarm in alarms_for_people(assembly)
            for function in assembly.targets(alarm.template, alarm.get("AlarmActions", []))
            if function.kind == "AWS::Lambda::Function"
        ]
        if not any(
            service in assembly.targets(one.template, one.get("Environment.Variables")) for one in invoked
        ):
            yield (service, "nothing stops its engines after gpu.max_instance_hours_per_day")


@rule("T-metric-names")
def metric_names(assembly: Assembly) -> Found[Resource]:
    """Alarms and the dashboard read metrics that the orchestrator publishes, with a statistic that fits."""
    catalog = load_metrics()
    for alarm in assembly.of_kind(ALARM):
        reads = [one["MetricStat"] for one in alarm.get("Metrics", []) if "MetricStat" in one]
        pairs = [
            (one["Metric"].get("Namespace"), one["Metric"].get("MetricName"), one["Stat"]) for one in reads
        ]
        statistic = alarm.get("Statistic", alarm.get("ExtendedStatistic"))
        pairs.append((alarm.get("Namespace"), alarm.get("MetricName"), statistic))
        for namespace, name, stat in pairs:
            if namespace == catalog.namespace:
                metric = catalog.metrics.get(name)
                if metric is None or metric.statistic != stat:
                    expected = f"its statistic is {metric.statistic}" if metric else "it does not exist"
                    yield (alarm, f"it reads {stat} of {name}, but {expected}")
    for board in assembly.of_kind("AWS::CloudWatch::Dashboard"):
        body = assembly.text(board.template, board.get("DashboardBody"))
        for name in sorted(set(re.findall(rf'"{catalog.namespace}","(\w+)"', body)) - set(catalog.metrics)):
            yield (board, f"it shows {name}, which the orchestrator does not publish")


RULES = (engine_alarms, alarm_remedy, alarm_recipients, instance_hours, metric_names)
