"""Rules on the builds of images in the account, and on the functions that CloudFormation waits for."""

from __future__ import annotations

from itertools import combinations

from infra.deployment.checks.rule import Found, rule

from .gpu_instances import gpus
from .template import Assembly, Resource, container

FINAL_STATES = {"SUCCEEDED", "FAILED", "FAULT", "STOPPED", "TIMED_OUT"}
LONGEST_WAIT_SECONDS = 3600
"""CloudFormation waits no longer for the answer of a function."""

_MACHINES = {
    # Memory in GiB and disk in GB, by CodeBuild's "Build environment compute modes and types".
    "BUILD_GENERAL1_SMALL": (4, 64),
    "BUILD_GENERAL1_MEDIUM": (8, 128),
    "BUILD_GENERAL1_LARGE": (16, 128),
    "BUILD_GENERAL1_XLARGE": (72, 256),
    "BUILD_GENERAL1_2XLARGE": (144, 824),
}
# A layer is compressed by several threads while it is pushed.
_ENGINE_MEMORY_GIB = 8
# An estimate of what CodeBuild's own image and tools take.
_OWN_DISK_GB = 20
# The layers of the orchestrator's image, pulled and unpacked, have about 1 GB.
_OTHER_MEMORY_GIB, _OTHER_DISK_GB = 2, 10


def _built(assembly: Assembly) -> list[Resource]:
    """What builds make: images and mirrors of models."""
    return [*assembly.of_kind("Custom::ContainerImage"), *assembly.of_kind("Custom::ModelMirror")]


@rule("T-build-machine")
def build_machine(assembly: Assembly) -> Found[Resource]:
    """Builds run with Docker, and with the disk and the memory that their image takes."""
    for image in assembly.of_kind("Custom::ContainerImage"):
        project = assembly.follow(image, "Project")
        if project is None:
            yield (image, "it must name the project that builds it")
            continue
        if project.get("Environment.PrivilegedMode") is not True:
            yield (project, "Environment.PrivilegedMode must be true; Docker does not start without it")
        compute = project.get("Environment.ComputeType")
        memory, disk = _MACHINES.get(compute, (0, 0))
        wanted_memory, wanted_disk = _wanted(assembly, image)
        if memory < wanted_memory or disk < wanted_disk:
            yield (
                project,
                f"{compute} has {memory} GiB of memory and {disk} GB of disk; "
                f"the build takes {wanted_memory} GiB and {wanted_disk} GB",
            )


def _wanted(assembly: Assembly, image: Resource) -> tuple[float, float]:
    """The memory in GiB and the disk in GB that the build of an image takes."""
    repository = assembly.follow(image, "Repository")
    for task in assembly.of_kind("AWS::ECS::TaskDefinition"):
        if gpus(task) and repository in assembly.targets(task.template, container(task).get("Image")):
            engine = assembly.plan.catalog.engine
            # The layers as they are pulled, unpacked, and compressed again to be pushed.
            return _ENGINE_MEMORY_GIB, _OWN_DISK_GB + engine.unpacked_gb + 2 * engine.compressed_gb
    return _OTHER_MEMORY_GIB, _OTHER_DISK_GB


@rule("T-build-end")
def build_end(assembly: Assembly) -> Found[Resource]:
    """Every final state of a build is reported; otherwise CloudFormation waits for an hour."""
    for image in _built(assembly):
        project, function = assembly.follow(image, "Project"), assembly.follow(image, "ServiceToken")
        reported = set()
        for event in assembly.of_kind("AWS::Events::Rule"):
            watched = assembly.targets(event.template, event.get("EventPattern.detail.project-name"))
            called = assembly.targets(event.template, event.get("Targets"))
            if project in watched and function in called and event.get("State") != "DISABLED":
                reported |= set(event.get("EventPattern.detail.build-status", []))
        if missing := sorted(FINAL_STATES - reported):
            yield (image, f"no event reports to its function that the build ended with {', '.join(missing)}")


@rule("T-build-time")
def build_time(assembly: Assembly) -> Found[Resource]:
    """CloudFormation waits as long as the start, the queue and the build may take together."""
    for image in _built(assembly):
        project, function = assembly.follow(image, "Project"), assembly.follow(image, "ServiceToken")
        if project is None or function is None:
            continue
        build = 60 * project.number("TimeoutInMinutes", 60)
        queue = 60 * project.number("QueuedTimeoutInMinutes", 480)
        start = function.number("Timeout", 3)
        limit = image.number("ServiceTimeout", LONGEST_WAIT_SECONDS)
        if start + queue + build >= limit:
            yield (
                image,
                f"CloudFormation waits {limit:g} s; starting takes up to {start:g} s, the queue {queue:g} s "
                f"and the build {build:g} s",
            )


@rule("T-builds-in-turn")
def builds_in_turn(assembly: Assembly) -> Found[Resource]:
    """Images and mirrors are built one after the other: a new account may run one build at a time."""
    images = _built(assembly)
    for one, other in combinations(images, 2):
        if not (waits_for(assembly, one, other) or waits_for(assembly, other, one)):
            yield (other, f"it is built at the same time as {one.logical_id}; let one depend on the other")


def waits_for(assembly: Assembly, resource: Resource, other: Resource) -> bool:
    """Whether a resource depends on another, directly or through others."""
    reached, open_ = set(), {resource}
    while open_:
        current = open_.pop()
        reached.add(current)
        before = {assembly.named(current.template, name) for name in current.depends_on}
        open_ |= {found for found in before if found} - reached
    return other in reached and other != resource


@rule("T-function-time")
def function_time(assembly: Assembly) -> Found[Resource]:
    """Functions have enough time to answer, and end before CloudFormation stops waiting."""
    for function in assembly.of_kind("AWS::Lambda::Function"):
        timeout = function.number("Timeout", 3)
        served = [
            one
            for one in assembly.all()
            if assembly.target(one.template, one.get("ServiceToken")) == function
        ]
        for one in served:
            limit = one.number("ServiceTimeout", LONGEST_WAIT_SECONDS)
            if limit > LONGEST_WAIT_SECONDS or timeout >= limit:
                yield (
                    one,
                    f"its function may take {timeout:g} s, CloudFormation waits {limit:g} s, at most 3600",
                )
        # AWS's own clients try again for up to a minute and a half, and an answer is put four times.
        if served and timeout < 180:
            yield (function, f"it has {timeout:g} s to call AWS and to answer CloudFormation; give it 180 s")


RULES = (build_machine, build_end, build_time, builds_in_turn, function_time)
