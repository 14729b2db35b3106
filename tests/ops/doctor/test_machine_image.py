"""What doctor reports about the pinned machine image."""

from __future__ import annotations

from typing import Any

import pytest

from ops.doctor.machine_image import check_machine_image
from ops.report import Status
from tests.ops.machine_image_answers import NEWEST, NEWEST_NAME, parameters
from tests.ops.scripted_aws import Answer, Refused, account

OLDER = "ami-0fedcba9876543210"
MISSING = Refused("InvalidAMIID.NotFound", "does not exist")


def found(pinned: str, image: Answer = MISSING) -> tuple[Status, str, str]:
    answers: dict[str, Answer] = {**parameters(), "ec2.DescribeImages": image}
    (result,) = check_machine_image(account(answers, gpu__ami=pinned))
    return result.status, result.found, result.fix or ""


def test_recommended_image_is_named() -> None:
    status, text, _ = found("recommended")
    assert (status, NEWEST_NAME in text) == (Status.OK, True)


def test_newest_image_is_fine() -> None:
    assert found(NEWEST) == (Status.OK, f"{NEWEST_NAME} is the newest", "")


def test_older_image_is_reported_with_how_to_roll_it() -> None:
    status, text, fix = found(OLDER, {"Images": [{"ImageId": OLDER, "Name": "al2023-ami-ecs-gpu-older"}]})
    assert (status, text) == (
        Status.WARNING,
        f"al2023-ami-ecs-gpu-older is pinned, and AWS recommends {NEWEST_NAME}",
    )
    assert "gpu.ami: recommended" in fix


@pytest.mark.parametrize("image", [{"Images": []}, MISSING])
def test_image_of_another_region_cannot_start(image: Any) -> None:
    status, text, fix = found(OLDER, image)
    assert (status, fix) == (Status.ERROR, "set gpu.ami: recommended")
    assert f"{OLDER} does not exist in us-east-1" in text
