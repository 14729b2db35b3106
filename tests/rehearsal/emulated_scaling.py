"""What scales engines and instances, as far as the emulator lacks it.

Application Auto Scaling keeps targets, policies and scheduled actions, and evaluates none of them. A group of
instances cannot be deleted while one of them is protected from scale-in: the real deletion waits for ever.
"""

from __future__ import annotations

import json
from typing import Any

import ministack.app
import ministack.services.autoscaling as autoscaling
from ministack.core.responses import get_region

from tests.rehearsal.emulated_types import HANDLERS, Properties, added, checked

TARGETS: dict[str, Properties] = {}
POLICIES: dict[str, Properties] = {}
ACTIONS: dict[str, list[Properties]] = {}
"""Scheduled actions, by the target that they belong to."""

_GROUP = "AWS::AutoScaling::AutoScalingGroup"


def _put_target(_logical_id: str, properties: Properties, _stack: str) -> Any:
    wanted = dict(properties)
    scheduled = wanted.pop("ScheduledActions", [])
    wanted = checked("application-autoscaling", "RegisterScalableTarget", wanted)
    place = {key: wanted[key] for key in ("ResourceId", "ScalableDimension", "ServiceNamespace")}
    physical_id = "|".join(place.values())
    actions = [
        checked("application-autoscaling", "PutScheduledAction", {**place, **one}) for one in scheduled
    ]
    TARGETS[physical_id], ACTIONS[physical_id] = wanted, actions
    return physical_id, {"Id": physical_id}


def _update_target(_physical_id: str, _old: Properties, new: Properties, stack: str) -> Any:
    return _put_target("", new, stack)


def _delete_target(physical_id: str, _properties: Properties) -> None:
    TARGETS.pop(physical_id, None)
    ACTIONS.pop(physical_id, None)


def _put_policy(_logical_id: str, properties: Properties, _stack: str) -> Any:
    wanted = dict(properties)
    resource, dimension, namespace = wanted.pop("ScalingTargetId").split("|")
    wanted |= {"ResourceId": resource, "ScalableDimension": dimension, "ServiceNamespace": namespace}
    wanted = checked("application-autoscaling", "PutScalingPolicy", wanted)
    arn = f"arn:aws:autoscaling:{get_region()}:123456789012:scalingPolicy:{wanted['PolicyName']}"
    POLICIES[arn] = {**wanted, "PolicyARN": arn, "CreationTime": 0}
    return arn, {"Arn": arn}


def _delete_policy(physical_id: str, _properties: Properties) -> None:
    POLICIES.pop(physical_id, None)


def _json() -> dict[str, str]:
    """Returns new headers for each answer: the emulator adds the length to them."""
    return {"Content-Type": "application/x-amz-json-1.1"}


async def _autoscaling(
    _method: str, _path: str, headers: dict[str, str], body: bytes, _query: object
) -> tuple[int, dict[str, str], bytes]:
    target = next(value for name, value in headers.items() if name.lower() == "x-amz-target")
    operation, asked = target.rpartition(".")[2], json.loads(body)
    if operation == "RegisterScalableTarget":
        TARGETS[f"{asked['ResourceId']}|{asked['ScalableDimension']}|{asked['ServiceNamespace']}"] |= asked
        return 200, _json(), b"{}"
    name, found = {
        "DescribeScalableTargets": (
            "ScalableTargets",
            [{"CreationTime": 0, "RoleARN": "", **value} for value in TARGETS.values()],
        ),
        "DescribeScalingPolicies": ("ScalingPolicies", list(POLICIES.values())),
        "DescribeScheduledActions": (
            "ScheduledActions",
            [
                {"CreationTime": 0, "ScheduledActionARN": one["ScheduledActionName"], **one}
                for actions in ACTIONS.values()
                for one in actions
            ],
        ),
    }[operation]
    answer = {name: [one for one in found if one["ServiceNamespace"] == asked.get("ServiceNamespace")]}
    return 200, _json(), json.dumps(answer).encode()


def _set_protection(parameters: dict[str, Any]) -> Any:
    group = autoscaling._asgs[autoscaling._p(parameters, "AutoScalingGroupName")]
    wanted = set(autoscaling._parse_member_list(parameters, "InstanceIds"))
    for one in group["Instances"]:
        if one["InstanceId"] in wanted:
            protected = autoscaling._p(parameters, "ProtectedFromScaleIn") == "true"
            one["ProtectedFromScaleIn"] = protected
    return autoscaling._xml(200, "SetInstanceProtectionResponse", "<SetInstanceProtectionResult/>")


_update_group = autoscaling._update_asg


def _update_with_protection(parameters: dict[str, Any]) -> Any:
    """Also takes whether new instances are protected, which the emulator ignores."""
    protects = autoscaling._p(parameters, "NewInstancesProtectedFromScaleIn")
    group = autoscaling._asgs.get(autoscaling._p(parameters, "AutoScalingGroupName"))
    if group and protects:
        group["NewInstancesProtectedFromScaleIn"] = protects == "true"
    return _update_group(parameters)


_delete_group = HANDLERS[_GROUP]["delete"]


def _delete_unprotected(physical_id: str, properties: Properties) -> Any:
    instances = autoscaling._asgs.get(physical_id, {}).get("Instances", [])
    protected = [one["InstanceId"] for one in instances if one["ProtectedFromScaleIn"]]
    if protected:
        raise ValueError(f"{', '.join(protected)} protected from scale-in: the deletion waits for ever")
    return _delete_group(physical_id, properties)


_SLACK: dict[str, Properties] = {}


def _create_slack_channel(_logical_id: str, properties: Properties, _stack: str) -> Any:
    names = {"SlackWorkspaceId": "SlackTeamId", "GuardrailPolicies": "GuardrailPolicyArns"}  # in the API
    wanted = {names.get(key, key): value for key, value in properties.items()}
    wanted.setdefault("SlackChannelName", wanted["ConfigurationName"])
    wanted = checked("chatbot", "CreateSlackChannelConfiguration", wanted)
    arn = f"arn:aws:chatbot::123456789012:chat-configuration/slack-channel/{wanted['ConfigurationName']}"
    _SLACK[arn] = wanted
    return arn, {"Arn": arn}


def _delete_slack_channel(physical_id: str, _properties: Properties) -> None:
    _SLACK.pop(physical_id, None)


def extend() -> None:
    """Adds all of it to the emulator."""
    kind = "AWS::ApplicationAutoScaling::{}"
    added(kind.format("ScalableTarget"), _put_target, _delete_target, _update_target)
    added(kind.format("ScalingPolicy"), _put_policy, _delete_policy)
    added("AWS::Chatbot::SlackChannelConfiguration", _create_slack_channel, _delete_slack_channel)
    ministack.app.SERVICE_HANDLERS["application-autoscaling"] = _autoscaling
    autoscaling._ACTION_MAP["SetInstanceProtection"] = _set_protection
    autoscaling._ACTION_MAP["UpdateAutoScalingGroup"] = _update_with_protection
    HANDLERS[_GROUP]["delete"] = _delete_unprotected
