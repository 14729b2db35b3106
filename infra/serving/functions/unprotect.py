"""Clears the scale-in protection of a group's instances when CloudFormation deletes the stack.

Protected instances would make the deletion of the group wait for ever (aws/aws-cdk#18179). Every error is
reported to CloudFormation, which otherwise waits until the resource's time limit.
"""

from __future__ import annotations

import json
import logging
import time
import urllib.request
from typing import Any

import boto3
from botocore.config import Config

Event = dict[str, Any]

RETRY_SECONDS = 5.0
_RESERVED_MILLISECONDS = 30_000
_REASON = 1000
# SetInstanceProtection accepts as many instances.
_BATCH = 50
_AWS = Config(connect_timeout=5, read_timeout=15, retries={"mode": "standard", "max_attempts": 4})


def handle(event: Event, context: Any) -> None:
    """Entry point of the Lambda function."""
    group = event["ResourceProperties"]["AutoScalingGroupName"]
    try:
        if event["RequestType"] == "Delete":
            group = event["PhysicalResourceId"]
            _clear(group, context)
        status, reason = "SUCCESS", ""
    except Exception as error:
        logging.exception("the protection cannot be cleared")
        status, reason = "FAILED", f"{type(error).__name__}: {error}"[:_REASON]
    _send(event, {"Status": status, "Reason": reason, "PhysicalResourceId": group})


def _clear(group: str, context: Any) -> None:
    """Clears the protection until no instance has any; one that is still starting cannot be changed yet."""
    client = boto3.client("autoscaling", config=_AWS)
    while True:
        groups = client.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"]
        if not groups:
            return
        if groups[0].get("NewInstancesProtectedFromScaleIn"):
            client.update_auto_scaling_group(
                AutoScalingGroupName=group, NewInstancesProtectedFromScaleIn=False
            )
        protected = [one["InstanceId"] for one in groups[0]["Instances"] if one["ProtectedFromScaleIn"]]
        if not protected:
            return
        try:
            for start in range(0, len(protected), _BATCH):
                client.set_instance_protection(
                    AutoScalingGroupName=group,
                    InstanceIds=protected[start : start + _BATCH],
                    ProtectedFromScaleIn=False,
                )
        except client.exceptions.ClientError:
            if context.get_remaining_time_in_millis() < _RESERVED_MILLISECONDS:
                raise
            time.sleep(RETRY_SECONDS)


def _send(event: Event, answer: Event) -> None:
    answer |= {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    put = urllib.request.Request(  # noqa: S310 - a URL of CloudFormation's
        event["ResponseURL"], data=json.dumps(answer).encode(), method="PUT", headers={"Content-Type": ""}
    )
    urllib.request.urlopen(put, timeout=10).close()  # noqa: S310
