"""Checks whether the pinned machine image exists, and whether AWS recommends a newer one."""

from __future__ import annotations

from botocore.exceptions import ClientError

from infra.deployment.plan import RECOMMENDED_AMI
from ops.account import Account, code_of, translated
from ops.machine_image import MachineImage, recommended
from ops.report import Result, Status

_SUBJECT = "machine image"
_ROLL = "set gpu.ami: recommended and run make deploy (docs/release.md, New machine image)"


def check_machine_image(account: Account) -> list[Result]:
    """Compares the images in the deployment file with the recommended one."""
    newest = recommended(account)
    pinned = dict.fromkeys(one.gpu.ami for one in account.deployment.entries)
    return [_compared(account, newest, ami) for ami in pinned]


def _compared(account: Account, newest: MachineImage, pinned: str) -> Result:
    if pinned == RECOMMENDED_AMI:
        return Result(Status.OK, _SUBJECT, f"recommended, now {newest.name}; make deploy records it")
    if pinned == newest.ami:
        return Result(Status.OK, _SUBJECT, f"{newest.name} is the newest")
    name = _name(account, pinned)
    if name is None:
        found = f"gpu.ami: {pinned} does not exist in {account.region}"
        return Result(Status.ERROR, _SUBJECT, found, "set gpu.ami: recommended")
    return Result(Status.WARNING, _SUBJECT, f"{name} is pinned, and AWS recommends {newest.name}", _ROLL)


def _name(account: Account, ami: str) -> str | None:
    try:
        with translated():
            images = account.client("ec2").describe_images(ImageIds=[ami])["Images"]
    except ClientError as error:
        if not code_of(error).startswith("InvalidAMIID"):
            raise
        return None
    return images[0].get("Name", ami) if images else None
