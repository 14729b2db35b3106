#!/bin/bash
# Prepares a GPU instance at its first boot, before the ECS agent starts. It must not wait for the agent, which itself
# waits for this script. If the disk cannot be used, the engine still works on the root volume.
set -u

# Images of earlier releases are removed about 40 minutes after their last container, so the disk holds two at most.
# ECS_IMAGE_PULL_BEHAVIOR=prefer-cached would turn that off.
cat >> /etc/ecs/ecs.config <<'CONFIG'
ECS_ENABLE_GPU_SUPPORT=true
ECS_ENABLE_SPOT_INSTANCE_DRAINING=true
ECS_AWSVPC_BLOCK_IMDS=true
ECS_CONTAINER_START_TIMEOUT=10m
ECS_IMAGE_PULL_BEHAVIOR=once
ECS_IMAGE_PULL_INACTIVITY_TIMEOUT=10m
ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=30m
ECS_IMAGE_MINIMUM_CLEANUP_AGE=30m
ECS_IMAGE_CLEANUP_INTERVAL=10m
CONFIG

# By UUID, since device names may change with a reboot; before Docker, whose images are on it.
mount_instance_store() {
  local disk uuid
  disk=$(lsblk --nodeps --noheadings --paths --output NAME,MODEL | awk '/Instance Storage/ {print $1; exit}')
  [ -n "$disk" ] &&
    mkfs.xfs -f "$disk" &&
    uuid=$(blkid --probe --match-tag UUID --output value "$disk") &&
    echo "UUID=$uuid /mnt/instance-store xfs noatime,nofail,x-systemd.before=docker.service 0 2" >> /etc/fstab &&
    mount /mnt/instance-store
}

move_docker() {
  install --directory /mnt/instance-store/docker &&
    python3 - /mnt/instance-store/docker <<'PYTHON' &&
import json, pathlib, sys

file = pathlib.Path("/etc/docker/daemon.json")
settings = json.loads(file.read_text()) if file.exists() else {}
settings["data-root"] = sys.argv[1]
# With containerd's image store, images would not be in the data root.
settings["features"] = {**settings.get("features", {}), "containerd-snapshotter": False}
file.parent.mkdir(exist_ok=True)
file.write_text(json.dumps(settings, indent=2))
PYTHON
    systemctl restart docker &&
    systemctl start --no-block ecs
}

mkdir --parents /mnt/instance-store
if mount_instance_store; then
  move_docker
fi
install --directory --owner=2000 --group=0 --mode=0775 /mnt/instance-store/cache
