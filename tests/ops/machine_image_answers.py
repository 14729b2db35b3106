"""AWS's answer about the recommended machine image."""

from __future__ import annotations

from ops.machine_image import NAME_PARAMETER
from tests.ops.scripted_aws import Answer

NEWEST = "ami-0123456789abcdef0"
NEWEST_NAME = "al2023-ami-ecs-gpu-hvm-2023.0.20261113-kernel-6.1-x86_64-ebs"


def parameters() -> dict[str, Answer]:
    return {
        "ssm.GetParameters": {
            "Parameters": [
                {"Name": NAME_PARAMETER.replace("image_name", "image_id"), "Value": NEWEST},
                {"Name": NAME_PARAMETER, "Value": NEWEST_NAME},
            ]
        }
    }
