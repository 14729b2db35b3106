"""What is read of a synthesized template."""

from __future__ import annotations

from typing import Any

import pytest

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


def test_account_describes_what_the_template_says() -> None:
    template = synthesize("scaled").serving
    expected = Resources.of_template(template)
    resources = template["Resources"]
    policies = [
        {**one["Properties"], "PolicyARN": name, "PolicyName": name, "ResourceId": "service/engine"}
        for name, one in resources.items()
        if one["Type"] == "AWS::ApplicationAutoScaling::ScalingPolicy"
    ]
    for policy in policies:
        if policy["PolicyType"] != "StepScaling":
            policy["ResourceId"] = "service/orchestrator"
    alarms = [
        {**one["Properties"], "AlarmName": name, "AlarmActions": _names(one["Properties"])}
        for name, one in resources.items()
        if one["Type"] == "AWS::CloudWatch::Alarm"
    ]
    targets = [
        {"ResourceId": "service/engine", "MinCapacity": 0, "MaxCapacity": 3},
        {"ResourceId": "service/orchestrator", "MinCapacity": 3, "MaxCapacity": 10},
    ]
    described = Resources.of_account(targets, policies, alarms)
    assert (described.least, described.most) == (expected.least, expected.most)
    assert described.alarms == expected.alarms
    assert described.policies == expected.policies


def _names(properties: dict[str, Any]) -> list[str]:
    """Returns an alarm's actions as names, where the API has ARNs."""
    return [str(one) if isinstance(one, str) else str(one.get("Ref")) for one in properties["AlarmActions"]]


def test_account_without_step_scaling_is_reported() -> None:
    with pytest.raises(ValueError, match="0 targets have step scaling policies"):
        Resources.of_account([], [], [])
