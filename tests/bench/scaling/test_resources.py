"""What is read of a synthesized template."""

from __future__ import annotations

from bench.scaling.resources import Resources
from tests.infra.synthesis import synthesize


def test_only_alarms_that_call_policies_are_read() -> None:
    template = synthesize("scaled").serving
    actions = [
        action
        for one in template["Resources"].values()
        if one["Type"] == "AWS::CloudWatch::Alarm"
        for action in one["Properties"].get("AlarmActions", [])
    ]
    assert any(isinstance(action, str) for action in actions)
    resources = Resources.of_template(template)
    assert sorted(name for alarm in resources.alarms for name in alarm.actions) == sorted(resources.policies)
