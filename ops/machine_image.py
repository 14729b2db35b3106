"""The machine image of GPU instances: the newest one that AWS recommends, and the one that is pinned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.deployment.plan import AMI_PARAMETER, RECOMMENDED_AMI
from infra.deployment.yaml_edit import with_value

from .account import Account, translated
from .report import say

NAME_PARAMETER = AMI_PARAMETER.replace("/image_id", "/image_name")


@dataclass(frozen=True, slots=True)
class MachineImage:
    """An AMI. The name contains its version."""

    ami: str
    name: str


def recommended(account: Account) -> MachineImage:
    """Returns the newest image that AWS recommends for GPU instances in the account's region."""
    with translated():
        found = account.client("ssm").get_parameters(Names=[AMI_PARAMETER, NAME_PARAMETER])["Parameters"]
    values = {one["Name"]: one["Value"] for one in found}
    return MachineImage(values[AMI_PARAMETER], values.get(NAME_PARAMETER, "name not known"))


def pin(account: Account, deployment_file: Path) -> None:
    """Records the recommended image in the deployment file, unless that names one already.

    Otherwise each new instance would start with whatever AWS recommends by then, untested.
    """
    entries = [one for one in account.deployment.entries if one.gpu.ami == RECOMMENDED_AMI]
    if not entries:
        return
    image = recommended(account)
    text = deployment_file.read_text(encoding="utf-8") if deployment_file.exists() else ""
    comment = f"{image.name} in {account.region}"
    for one in entries:
        section = f"models.{one.entry}" if one.entry else "gpu"
        text = with_value(text, section, "ami", image.ami, comment=comment)
        say(f"Pinned {section}.ami to {image.ami} ({image.name}) in {deployment_file}; commit it")
    deployment_file.write_text(text, encoding="utf-8")
