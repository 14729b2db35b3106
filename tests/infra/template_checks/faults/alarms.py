"""Faults of alarms and of the dashboard."""

from __future__ import annotations

from tests.infra.template_checks.mutations import ALARM, Mutation, Templates, drop, put, resources

_BOARD = "AWS::CloudWatch::Dashboard"


def _renamed_in_the_dashboard(templates: Templates) -> None:
    [board] = resources(templates, _BOARD)
    parts = board["Properties"]["DashboardBody"]["Fn::Join"][1]
    for number, part in enumerate(parts):
        if isinstance(part, str):
            parts[number] = part.replace("KvCacheUse", "KvCacheUsage")
    assert any("KvCacheUsage" in part for part in parts if isinstance(part, str))


def _down_while_asleep(templates: Templates) -> None:
    [service] = [n for n, b in templates["serving"]["Resources"].items() if n.startswith("EngineService") and
                 b["Type"] == "AWS::ECS::Service"]  # fmt: skip
    [alarm] = resources(templates, ALARM, "MonitoringOrchestratorDown")
    alarm["Properties"]["Dimensions"] = [{"Name": "ServiceName", "Value": {"Fn::GetAtt": [service, "Name"]}}]


def _without_the_function(templates: Templates) -> None:
    [alarm] = resources(templates, ALARM, "MonitoringInstanceHours")
    before = alarm["Properties"]["AlarmActions"]
    alarm["Properties"]["AlarmActions"] = [one for one in before if "StopEngines" not in str(one)]
    assert len(before) - len(alarm["Properties"]["AlarmActions"]) == 1


FAULTS = (
    Mutation("no alarm without an engine", "T-engine-alarms", drop(ALARM, (), "EngineDown")),
    Mutation("no alarm for a hung engine", "T-engine-alarms", drop(ALARM, (), "EngineFailing")),
    Mutation(
        "no alarm for demand that wakes nobody",
        "T-engine-alarms",
        drop(ALARM, (), "DemandWithoutEngine"),
        "scaled",
    ),
    Mutation("an alarm while everybody sleeps", "T-engine-alarms", _down_while_asleep, "scaled"),
    Mutation(
        "alarm looks for other lines",
        "T-engine-alarms",
        put("AWS::Logs::MetricFilter", ("FilterPattern",), '{ $.level = "error" }'),
    ),
    Mutation(
        "an alarm without a remedy",
        "T-alarm-remedy",
        put(ALARM, ("AlarmDescription",), "Something is wrong.", "KvCacheFull"),
    ),
    Mutation("a full cache is normal", "T-alarm-remedy", put(ALARM, ("Threshold",), 100, "KvCacheFull")),
    Mutation(
        "nobody gets the alarms", "T-alarm-recipients", drop(ALARM, ("AlarmActions",), "Monitoring"), "scaled"
    ),
    Mutation(
        "nobody hears that it is over",
        "T-alarm-recipients",
        drop(ALARM, ("OKActions",), "Monitoring"),
        "scaled",
    ),
    Mutation(
        "an alarm of no metric", "T-metric-names", put(ALARM, ("MetricName",), "Ttft", "FirstTokenSlow")
    ),
    Mutation(
        "the average hides who waits",
        "T-metric-names",
        put(ALARM, ("ExtendedStatistic",), "p50", "FirstTokenSlow"),
    ),
    Mutation(
        "too many instance hours only send a mail",
        "T-instance-hours",
        _without_the_function,
        "scaled",
    ),
    Mutation("an empty graph", "T-metric-names", _renamed_in_the_dashboard),
)
