"""Starts the engines again after gpu.max_instance_hours_per_day has stopped them."""

from __future__ import annotations

from .account import Account, translated
from .engines import EngineService, engine_services
from .report import say

_RUNNING = {
    "DynamicScalingInSuspended": False,
    "DynamicScalingOutSuspended": False,
    "ScheduledScalingSuspended": False,
}


def resume(account: Account) -> None:
    """Restores the limits of the deployment file, if scaling is suspended.

    CloudFormation does not: it changes a scalable target only if the template changes.
    """
    for engines in engine_services(account):
        _resume(account, engines)


def _resume(account: Account, engines: EngineService) -> None:
    resource = f"service/{engines.cluster}/{engines.service}"
    scaling = account.client("application-autoscaling")
    with translated():
        targets = scaling.describe_scalable_targets(ServiceNamespace="ecs", ResourceIds=[resource])
        for target in targets["ScalableTargets"]:
            if target.get("SuspendedState", {}).get("ScheduledScalingSuspended"):
                gpu = engines.plan.deployment.gpu
                scaling.register_scalable_target(
                    ServiceNamespace="ecs",
                    ResourceId=resource,
                    ScalableDimension=target["ScalableDimension"],
                    MinCapacity=gpu.least,
                    MaxCapacity=gpu.most,
                    SuspendedState=_RUNNING,
                )
                say("Engines were stopped by gpu.max_instance_hours_per_day; they may start again")
