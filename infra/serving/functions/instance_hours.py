"""Stops all engines when the instances have run for longer than the deployment file allows.

CloudWatch invokes it when the alarm is raised. It also suspends scaling, or the schedule would start engines
again; `make deploy` ends that.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import boto3
from botocore.config import Config

_AWS = Config(connect_timeout=5, read_timeout=15, retries={"mode": "standard", "max_attempts": 4})


def handle(event: dict[str, Any], _context: Any) -> None:
    """Entry point of the Lambda function."""
    state = event.get("alarmData", {}).get("state", {}).get("value")
    if state != "ALARM":
        return
    resource = os.environ["RESOURCE_ID"]
    boto3.client("application-autoscaling", config=_AWS).register_scalable_target(
        ServiceNamespace="ecs",
        ResourceId=resource,
        ScalableDimension="ecs:service:DesiredCount",
        MinCapacity=0,
        MaxCapacity=0,
        SuspendedState={
            "DynamicScalingInSuspended": False,
            "DynamicScalingOutSuspended": True,
            "ScheduledScalingSuspended": True,
        },
    )
    logging.warning("all engines of %s are stopped", resource)
