"""The user data of GPU instances, run in a container with a loop device as the instance store.

`lsblk` is a stub that names the device as an instance does, and `systemctl` one that notes its calls. The
tests do cloud-init's part: they run the script on the first boot, a warm instance's on each, and mount what
fstab names on each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.synthesis import synthesize
from tests.support.containers.bases import appliances
from tests.support.containers.container import Running, container
from tests.support.containers.engine import Engine

CLUSTER = "tandem-cluster"
STORE = "/mnt/instance-store"
CACHE = f"{STORE}/cache"
ENGINE_USER = "2000"
_MAKE_DISK = "truncate --size 400M /disk && losetup --find --show /disk"
# Another disk takes the device's name first.
_RENAME_DISK = "losetup --detach {device}; truncate --size 1M /other; losetup --find --show /other"
_STUBS = "/usr/local/bin"
_SYSTEMCTL = '#!/bin/sh\necho "$@" >> /systemctl.log\n'
_LSBLK = """\
#!/bin/sh
echo "/dev/nvme0n1 Amazon Elastic Block Store"
{store}
"""
_STORE = 'echo "{device} Amazon EC2 NVMe Instance Storage"'


def user_data(variant: str = "default") -> str:
    """The script of the launch template, with the name of the cluster filled in."""
    resources = synthesize(variant).serving["Resources"].values()
    (template,) = [one for one in resources if one["Type"] == "AWS::EC2::LaunchTemplate"]
    encoded: Any = template["Properties"]["LaunchTemplateData"]["UserData"]["Fn::Base64"]
    if isinstance(encoded, str):
        return encoded
    return "".join(part if isinstance(part, str) else CLUSTER for part in encoded["Fn::Join"][1])


class Instance:
    """A container that stands for an instance."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self.device = ""
        self.other = ""
        self._runs = 0

    def run(self, script: str, user: str = "0") -> str:
        self._runs += 1
        printed = f"/tmp/output-{self._runs}"
        status, _ = self._running.execute("bash", "-c", f"{{\n{script}\n}} > {printed} 2>&1", user=user)
        output = self._running.file(printed)
        assert status == 0, f"status {status}: {output}"
        return output.strip()

    def attach_store(self) -> None:
        self.device = self.run(_MAKE_DISK)

    def first_boot(self, script: str) -> None:
        store = _STORE.format(device=self.device) if self.device else ""
        stub = _LSBLK.format(store=store)
        self.run(f"mkdir -p /etc/ecs; cat > {_STUBS}/lsblk <<'STUB'\n{stub}STUB")
        self.run(f"cat > {_STUBS}/systemctl <<'STUB'\n{_SYSTEMCTL}STUB\nchmod 755 {_STUBS}/*")
        self.run(script)

    def reboot(self) -> None:
        """Mounts and /run are gone and the device has another name; files and the instance store stay."""
        self._running.restart()
        self.run("rm -rf /run/blkid")  # a cache of device names; /run is in memory on an instance
        self.other = self.run(_RENAME_DISK.format(device=self.device))
        self.device = self.run("losetup --find --show /disk")
        self.run("mount --all")

    def release(self) -> None:
        devices = " ".join(filter(None, (self.device, self.other)))
        if devices:
            self.run(f"umount {STORE} 2>/dev/null; losetup --detach {devices}")


@pytest.fixture
def instance(docker_engine: Engine) -> Iterator[Instance]:
    with container(
        docker_engine,
        appliances(docker_engine),
        ["sleep", "infinity"],
        init=True,
        cap_add=["SYS_ADMIN"],
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        device_cgroup_rules=["b 7:* rwm", "c 10:237 rwm"],
        volumes={"/dev": {"bind": "/dev", "mode": "rw"}},
    ) as running:
        instance = Instance(running)
        try:
            yield instance
        finally:
            instance.release()


def is_prepared(instance: Instance) -> None:
    """The cache is on the instance store and the engine's, and the agent knows its cluster and the GPU."""
    assert instance.run(f"findmnt --noheadings --output SOURCE --target {CACHE}") == instance.device
    can_be_written(instance)
    settings = agent_settings(instance)
    assert settings["ECS_CLUSTER"] == CLUSTER
    assert settings["ECS_ENABLE_GPU_SUPPORT"] == "true"
    assert settings["ECS_AWSVPC_BLOCK_IMDS"] == "true"
    assert settings["ECS_IMAGE_PULL_BEHAVIOR"] == "once"


def agent_settings(instance: Instance) -> dict[str, str]:
    return dict(line.split("=", 1) for line in instance.run("cat /etc/ecs/ecs.config").splitlines())


def keeps_images_on_the_store(instance: Instance) -> None:
    """Docker's data is on the instance store, and Docker and the agent were started again."""
    docker = json.loads(instance.run("cat /etc/docker/daemon.json"))
    assert docker["data-root"] == f"{STORE}/docker"
    assert instance.run("cat /systemctl.log").splitlines() == ["restart docker", "start --no-block ecs"]


def can_be_written(instance: Instance) -> None:
    assert instance.run(f"stat --format '%u:%g %a' {CACHE}") == f"{ENGINE_USER}:0 775"
    instance.run(f"touch {CACHE}/weights", user=ENGINE_USER)


def test_cache_is_on_the_instance_store_and_the_agent_is_configured(instance: Instance) -> None:
    instance.attach_store()
    instance.first_boot(user_data())
    is_prepared(instance)
    keeps_images_on_the_store(instance)


def test_cache_survives_a_reboot_that_renames_the_device(instance: Instance) -> None:
    instance.attach_store()
    instance.first_boot(user_data())
    instance.run(f"echo kept > {CACHE}/weights", user=ENGINE_USER)
    instance.reboot()
    is_prepared(instance)
    assert instance.run(f"cat {CACHE}/weights") == "kept"


def test_cache_is_on_the_root_volume_where_there_is_no_store(instance: Instance) -> None:
    instance.first_boot(user_data())
    can_be_written(instance)


def test_warm_instance_is_prepared_by_each_boot(instance: Instance) -> None:
    instance.attach_store()
    hook, _, script = user_data("warm").partition("\n")
    assert hook == "#cloud-boothook"  # cloud-init removes the line, and runs the rest at each boot
    instance.first_boot(script)
    instance.run(f"echo kept > {CACHE}/weights", user=ENGINE_USER)
    instance.run(script)
    can_be_written(instance)
    assert instance.run(f"findmnt --noheadings --output TARGET --target {CACHE}") != STORE
    settings = agent_settings(instance)
    assert (settings["ECS_CLUSTER"], settings["ECS_WARM_POOLS_CHECK"]) == (CLUSTER, "true")
    assert instance.run("ls /systemctl.log 2>/dev/null || true") == ""


def test_store_that_is_not_mounted_is_found(instance: Instance) -> None:
    instance.attach_store()
    script = user_data().replace(f"    mount {STORE}\n", "    true\n")
    assert script != user_data()
    instance.first_boot(script)
    with pytest.raises(AssertionError, match="/dev/loop"):
        is_prepared(instance)
