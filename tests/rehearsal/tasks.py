"""Deployed task definitions, and how Docker runs what they say."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker.types import Ulimit

from tests.support.containers.container import SECOND, Running, start
from tests.support.containers.engine import Engine

from .emulator import Emulator

_MEBIBYTE = 1024 * 1024
_DEFAULT_STOP_SECONDS = 30


class CannotPull(RuntimeError):
    """The image that a task definition names is not in the registry."""


@dataclass
class Task:
    """A task definition as the ECS API describes it, and what it refers to.

    Attributes:
        definition: the task definition.
        names: host names at which Cloud Map serves the tasks.
        environment: of the one container, with the values of its secrets.
        substitutions: what Docker runs otherwise than ECS would.
    """

    definition: dict[str, Any]
    names: list[str]
    environment: dict[str, str]
    substitutions: list[str] = field(default_factory=list)

    @property
    def container(self) -> dict[str, Any]:
        container: dict[str, Any] = self.definition["containerDefinitions"][0]
        return container

    @property
    def name(self) -> str:
        return str(self.container["name"])

    @property
    def port(self) -> int:
        return int(self.container["portMappings"][0]["containerPort"])

    @property
    def stop_timeout(self) -> int:
        return int(self.container.get("stopTimeout", _DEFAULT_STOP_SECONDS))

    def substitute(self, name: str, value: str, why: str) -> None:
        """Sets a variable otherwise than deployed, and notes it."""
        before = self.environment.get(name, "not set")
        self.environment[name] = value
        self.substitutions.append(f"{self.name}: {name}={before} becomes {value}, {why}")


def deployed_task(emulator: Emulator, service: str) -> Task:
    """The task of the service whose name has `service` in it, as the emulator describes it."""
    ecs = emulator.ecs
    cluster, arn = next(
        (cluster, arn)
        for cluster in ecs.list_clusters()["clusterArns"]
        for arn in ecs.list_services(cluster=cluster)["serviceArns"]
        if service in arn
    )
    described: Any = ecs.describe_services(cluster=cluster, services=[arn])["services"][0]
    definition: Any = ecs.describe_task_definition(taskDefinition=described["taskDefinition"])[
        "taskDefinition"
    ]
    container = definition["containerDefinitions"][0]
    environment = {entry["name"]: entry["value"] for entry in container.get("environment", [])}
    # As the ECS agent reads them: with the role that the task is started with.
    secrets = emulator.client("secretsmanager", role=definition["executionRoleArn"])
    for secret in container.get("secrets", []):
        environment[secret["name"]] = _secret_value(secrets, secret["valueFrom"])
    names = [_host_name(emulator, entry["registryArn"]) for entry in described.get("serviceRegistries", [])]
    return Task(definition, names, environment)


def _secret_value(secrets: Any, reference: str) -> str:
    """The value that ECS takes: of the ARN, or of the key that follows it in `ARN:key:stage:version`."""
    parts = reference.split(":")
    value = str(secrets.get_secret_value(SecretId=":".join(parts[:7]))["SecretString"])
    return str(json.loads(value)[parts[7]]) if len(parts) > 7 and parts[7] else value


def _host_name(emulator: Emulator, registry: str) -> str:
    cloud_map = emulator.client("servicediscovery")
    service = cloud_map.get_service(Id=registry.rpartition("/")[2])["Service"]
    namespace = service.get("NamespaceId") or service["DnsConfig"]["NamespaceId"]
    return f"{service['Name']}.{cloud_map.get_namespace(Id=namespace)['Namespace']['Name']}"


def image_of(emulator: Emulator, registry: str, task: Task) -> str:
    """The image of a task by its digest, in the registry that stands for ECR.

    Raises:
        CannotPull: nobody has pushed it.
    """
    name, _, tag = str(task.container["image"]).rpartition(":")
    repository = name.partition("/")[2]
    images = emulator.client("ecr").describe_images(repositoryName=repository)["imageDetails"]
    found = [image["imageDigest"] for image in images if tag in image.get("imageTags", [])]
    if not found:
        raise CannotPull(f"CannotPullContainerError: {name}:{tag}: not found")
    return f"{registry}/{repository}@{found[0]}"


def run(engine: Engine, task: Task, image: str, network: str, hosts: Path) -> Running:
    """Starts a task as ECS does; the image's own health check is not used there, and not here.

    `hosts` is where the directories of the host are.
    """
    container, definition = task.container, task.definition
    linux = container.get("linuxParameters", {})
    memory = min(int(one["memory"]) for one in (container, definition) if one.get("memory"))
    options: dict[str, Any] = {
        "environment": task.environment,
        "entrypoint": container.get("entryPoint") or None,
        "user": container.get("user"),
        "working_dir": container.get("workingDirectory"),
        "mem_limit": memory * _MEBIBYTE,
        "memswap_limit": memory * _MEBIBYTE,
        "cpu_shares": int(container.get("cpu") or definition.get("cpu") or 0) or None,
        "read_only": bool(container.get("readonlyRootFilesystem")),
        "init": bool(linux.get("initProcessEnabled")) or None,
        "shm_size": f"{linux['sharedMemorySize']}m" if linux.get("sharedMemorySize") else None,
        "cap_add": linux.get("capabilities", {}).get("add") or None,
        "cap_drop": linux.get("capabilities", {}).get("drop") or None,
        "ulimits": [
            Ulimit(name=limit["name"], soft=limit["softLimit"], hard=limit["hardLimit"])
            for limit in container.get("ulimits", [])
        ],
        "volumes": _volumes(task, hosts),
        "healthcheck": _health_check(task),
        "stop_signal": None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return start(engine, image, container.get("command"), network=network, aliases=task.names, **given)


def can_write_to_mounts(running: Running, task: Task) -> None:
    """Checks that the container's user can write wherever the task mounts something to write to."""
    for mount in task.container.get("mountPoints", []):
        path = mount["containerPath"]
        if not mount.get("readOnly"):
            status, _ = running.execute("sh", "-c", f"touch {path}/.written && rm {path}/.written")
            assert status == 0, f"the user of {task.name} may not write to {path}: Permission denied"


def _volumes(task: Task, hosts: Path) -> dict[str, dict[str, str]]:
    """Mounts of host directories, which are below `hosts`; other volumes are Docker's own."""
    sources = {volume["name"]: volume.get("host", {}) for volume in task.definition.get("volumes", [])}
    mounts = {}
    for mount in task.container.get("mountPoints", []):
        source = sources[mount["sourceVolume"]].get("sourcePath")
        where = str(hosts / source.lstrip("/")) if source else f"{task.name}-{mount['sourceVolume']}"
        if source:
            note = f"{task.name}: {source} of the instance becomes a directory of this machine"
            task.substitutions.append(note)
        mounts[where] = {"bind": mount["containerPath"], "mode": "ro" if mount.get("readOnly") else "rw"}
    return mounts


def _health_check(task: Task) -> dict[str, Any]:
    check = task.container.get("healthCheck")
    if not check:
        return {"test": ["NONE"]}
    note = f"{task.name}: its health is checked every second instead of every {check.get('interval', 30)} s"
    task.substitutions.append(f"{note}, by `{shlex.join(check['command'][1:3])} ...`")
    timeout = check.get("timeout", 5)
    return {"test": check["command"], "interval": SECOND, "timeout": timeout * SECOND, "retries": 5}
