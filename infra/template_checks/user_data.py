"""Rules on the script that a GPU instance runs at its first boot."""

from __future__ import annotations

import re
from collections.abc import Iterator

from infra.deployment.checks.rule import Found, rule

from .gpu_instances import engine_services, launch_templates
from .template import Assembly, Resource, container

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_MOST_CLEANUP_SECONDS = 3600
_LEAST_PULL_SECONDS = 300
_LEAST_START_SECONDS = 300
_LEAST_THROUGHPUT = 400


def scripts(assembly: Assembly) -> Iterator[tuple[Resource, str]]:
    """The launch templates with their user data."""
    for template in assembly.of_kind("AWS::EC2::LaunchTemplate"):
        yield template, user_data(assembly, template)


def user_data(assembly: Assembly, template: Resource) -> str:
    """The script of a launch template."""
    return assembly.text(template.template, template.get("LaunchTemplateData.UserData"))


def agent_settings(script: str) -> dict[str, str]:
    """What the script writes into the configuration of the ECS agent."""
    return dict(re.findall(r"^(ECS_[A-Z_]+)=(\S*)$", script, re.MULTILINE))


def _seconds(duration: str | None, default: float) -> float:
    """Seconds of a Go duration such as `1h30m`."""
    if duration is None:
        return default
    return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"([\d.]+)([smh])", duration))


@rule("T-heredocs")
def heredocs(assembly: Assembly) -> Found[Resource]:
    """A heredoc without its end swallows the rest of the script, and bash only warns."""
    for template, script in scripts(assembly):
        lines = iter(script.splitlines())
        for line in lines:
            for dash, word in re.findall(r"<<(-?)\s*['\"]?(\w+)['\"]?", line):
                if not any((later.lstrip("\t") if dash else later) == word for later in lines):
                    yield (template, f"UserData: no line {word} ends the heredoc {line.strip()!r}")


@rule("T-agent-settings")
def agent(assembly: Assembly) -> Found[Resource]:
    """Without GPU support, tasks are never placed; with short limits, a large image is never pulled."""
    for template, script in scripts(assembly):
        settings = agent_settings(script)
        if settings.get("ECS_ENABLE_GPU_SUPPORT") != "true":
            yield (template, "UserData must set ECS_ENABLE_GPU_SUPPORT=true: the agent registers no GPU else")
        for name, default, least in (
            ("ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", 60, _LEAST_PULL_SECONDS),
            ("ECS_CONTAINER_START_TIMEOUT", 180, _LEAST_START_SECONDS),
        ):
            seconds = _seconds(settings.get(name), default)
            if seconds < least:
                yield (
                    template,
                    f"UserData: {name} is {seconds:g} s, and unpacking the engine's image takes longer than "
                    f"that; {name}=10m",
                )


@rule("T-image-cleanup")
def image_cleanup(assembly: Assembly) -> Found[Resource]:
    """An instance outlives releases: without clean-up, the third image of the engine fills its disk."""
    for template, script in scripts(assembly):
        settings = agent_settings(script)
        if settings.get("ECS_IMAGE_PULL_BEHAVIOR") == "prefer-cached":
            yield (
                template,
                "UserData: ECS_IMAGE_PULL_BEHAVIOR=prefer-cached turns image clean-up off; "
                "ECS_IMAGE_PULL_BEHAVIOR=once",
            )
        if settings.get("ECS_DISABLE_IMAGE_CLEANUP") == "true":
            yield (template, "UserData: ECS_DISABLE_IMAGE_CLEANUP=true keeps every image")
        waits = (
            _seconds(settings.get("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION"), 3 * 3600)
            + _seconds(settings.get("ECS_IMAGE_CLEANUP_INTERVAL"), 1800),
            _seconds(settings.get("ECS_IMAGE_MINIMUM_CLEANUP_AGE"), 3600),
        )
        if max(waits) > _MOST_CLEANUP_SECONDS:
            yield (
                template,
                f"UserData: an image stays for {max(waits) / 60:.0f} minutes after its last container, so "
                "that two releases in that time need room for three; set "
                "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=30m, ECS_IMAGE_CLEANUP_INTERVAL=10m and "
                "ECS_IMAGE_MINIMUM_CLEANUP_AGE=30m",
            )


@rule("T-image-disk")
def image_disk(assembly: Assembly) -> Found[Resource]:
    """A gp3 volume writes 125 MB/s by default: unpacking the engine's image takes four minutes."""
    for template, script in scripts(assembly):
        root = re.search(r"data-root.*= sys.argv\[1\]", script)
        disks = template.get("LaunchTemplateData.BlockDeviceMappings", [])
        throughput = min((float(one.get("Ebs", {}).get("Throughput", 125)) for one in disks), default=125)
        if not (root and assembly.plan.images_on_instance_store) and throughput < _LEAST_THROUGHPUT:
            yield (
                template,
                f"Docker's images are on a volume of {throughput:g} MB/s; UserData must set Docker's "
                f"data-root to the instance store, or Throughput must be {_LEAST_THROUGHPUT}",
            )


@rule("T-boot")
def boot(assembly: Assembly) -> Found[Resource]:
    """User data that waits for the agent waits for ever, and a disk may have another name after a reboot."""
    for template, script in scripts(assembly):
        for line in script.splitlines():
            if re.search(r"systemctl (?!.*--no-block).*\b(re)?start\b.*\becs\b", line) or re.search(
                r"systemctl (?!.*--no-block).*enable --now\b.*\becs\b", line
            ):
                yield (template, f"UserData: {line.strip()!r} waits for the agent; add --no-block")
            if "/etc/fstab" in line and "UUID=" not in line:
                yield (template, f"UserData: {line.strip()!r} mounts by device name; mount by UUID")


@rule("T-file-owner")
def file_owner(assembly: Assembly) -> Found[Resource]:
    """A container that may not write to its cache downloads the weights at every start, or fails."""
    for service, task in engine_services(assembly):
        user = str(container(task).get("User", ""))
        for volume in task.get("Volumes", []):
            path = volume.get("Host", {}).get("SourcePath")
            for template in launch_templates(assembly, service) if path else ():
                script = user_data(assembly, template)
                made = re.search(
                    rf"^\s*install --directory .*--owner=(\d+).* {re.escape(path)}$", script, re.M
                )
                if made is None:
                    yield (template, f"UserData must make {path} with an owner: install --directory --owner=")
                elif user.partition(":")[0] != made[1]:
                    yield (
                        task,
                        f"its container runs as {user or 'the user of its image'}, and {path} belongs to "
                        f"{made[1]}; both must be the same",
                    )


RULES = (heredocs, agent, image_cleanup, image_disk, boot, file_owner)
