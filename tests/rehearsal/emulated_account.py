"""Service-linked roles under the names that AWS gives them, and AWS's public parameters."""

from __future__ import annotations

from typing import Any

import ministack.services.iam as iam
import ministack.services.ssm as ssm

AMI = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended"
SERVICE_ROLES = {
    "ecs.amazonaws.com": "ECS",
    "autoscaling.amazonaws.com": "AutoScaling",
    "ecs.application-autoscaling.amazonaws.com": "ApplicationAutoScaling_ECSService",
    "elasticloadbalancing.amazonaws.com": "ElasticLoadBalancing",
}

_create = iam._create_service_linked_role


def _create_service_role(parameters: dict[str, Any]) -> Any:
    service = iam._p(parameters, "AWSServiceName")
    name = f"AWSServiceRoleFor{SERVICE_ROLES[service]}"
    if name in iam._roles:
        message = f"Service role name {name} has been taken in this account"
        return iam._error(400, "InvalidInput", message, ns="iam")
    answer = _create(parameters)
    emulated = f"AWSServiceRoleFor{service.partition('.')[0].capitalize()}"
    role = iam._roles.pop(emulated)
    iam._roles[name] = {**role, "RoleName": name, "Arn": role["Arn"].replace(emulated, name)}
    return answer


def extend() -> None:
    """Adds both to the emulator."""
    iam._IAM_HANDLERS["CreateServiceLinkedRole"] = _create_service_role
    ssm._PUBLIC_AMI_PARAMETERS[f"{AMI}/image_id"] = "ami-0123456789abcdef0"
    name = "al2023-ami-ecs-gpu-hvm-2023.0.20261113-kernel-6.1-x86_64-ebs"
    ssm._PUBLIC_AMI_PARAMETERS[f"{AMI}/image_name"] = name
