"""Rules on the GPU instances and the placement of tasks."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from infra.deployment.checks.rule import Found, rule
from infra.deployment.sizing import registered_memory_mib, root_volume_gb

from .template import Assembly, Resource, container

_CACHE_IN_CONTAINER = "/home/vllm/.cache"


def engine_services(assembly: Assembly) -> Iterator[tuple[Resource, Resource]]:
    """Returns the services whose tasks request GPUs, with their task definitions."""
    for service in assembly.of_kind("AWS::ECS::Service"):
        task = assembly.follow(service, "TaskDefinition")
        if task is not None and gpus(task):
            yield service, task


def gpus(task: Resource) -> int:
    """Returns the number of GPUs that a task requests."""
    asked = container(task).get("ResourceRequirements", [])
    return sum(int(one["Value"]) for one in asked if one["Type"] == "GPU")


def groups(assembly: Assembly, service: Resource) -> list[Resource]:
    """Returns the Auto Scaling groups behind a service's capacity providers."""
    found = []
    for entry in service.get("CapacityProviderStrategy", []):
        provider = assembly.target(service.template, entry["CapacityProvider"])
        group = provider and assembly.follow(provider, "AutoScalingGroupProvider.AutoScalingGroupArn")
        if group:
            found.append(group)
    return found


def instance_types(group: Resource) -> list[str]:
    """Returns the instance types of an Auto Scaling group."""
    overrides = group.get("MixedInstancesPolicy.LaunchTemplate.Overrides", [])
    return [override["InstanceType"] for override in overrides]


@rule("T-task-fits")
def task_fits(assembly: Assembly) -> Found[Resource]:
    """Tasks fit what an instance registers with ECS; larger ones are never placed."""
    for service, task in engine_services(assembly):
        box = container(task)
        memory, cpu = int(box.get("Memory", 0)), int(box.get("Cpu", 0))
        shm = int(box.get("LinuxParameters", {}).get("SharedMemorySize", 0))
        for name in [name for group in groups(assembly, service) for name in instance_types(group)]:
            instance = assembly.plan.catalog.instances.get(name)
            if instance is None:
                yield (
                    task,
                    f"unknown instance type {name}; known, for example: gpu.instance_types: [g5.xlarge]",
                )
                continue
            room = registered_memory_mib(instance)
            if memory + shm > room or not memory:
                yield (
                    task,
                    f"the task requests {memory} MiB and {shm} MiB of /dev/shm, but {name} registers about "
                    f"{room} MiB; gpu.task_memory_mib: {room - shm} fits",
                )
            if cpu > instance.vcpu * 1024:
                yield (task, f"the task requests {cpu} CPU units, but {name} has {instance.vcpu * 1024}")
            if gpus(task) > instance.gpus:
                yield (
                    task,
                    f"the task requests {gpus(task)} GPUs, but {name} has {instance.gpus}; "
                    f"gpu.gpus_per_task: {instance.gpus} fits",
                )


@rule("T-rollout-ends")
def rollout_ends(assembly: Assembly) -> Found[Resource]:
    """A release can start: one that starts a task before stopping another waits forever for a free GPU."""
    limits = assembly.plan.limits
    for service, task in engine_services(assembly):
        low = service.number("DeploymentConfiguration.MinimumHealthyPercent", 100)
        high = service.number("DeploymentConfiguration.MaximumPercent", 200)
        room = _room(assembly, service, task)
        # The percentages apply to the number of engines at the time of the release.
        for wanted in range(max(limits.least, 1), max(limits.most, 1) + 1):
            kept, allowed = ceil(wanted * low / 100), int(wanted * high / 100)
            stops_first = kept < wanted
            starts_first = allowed > wanted and room > wanted
            if room < wanted or not (stops_first or starts_first):
                yield (
                    service,
                    f"of {wanted} engines, {kept} must stay and {allowed} may run during a release, but the "
                    f"instances have room for {room}; with one GPU use minimum 0, maximum 100 percent, or "
                    "gpu.spare_instance: true",
                )
                break


def _room(assembly: Assembly, service: Resource, task: Resource) -> int:
    """Returns the number of a service's tasks that its instances have GPUs for."""
    room = 0
    for group in groups(assembly, service):
        known = [
            assembly.plan.catalog.instances[n]
            for n in instance_types(group)
            if n in assembly.plan.catalog.instances
        ]
        fit = min((instance.gpus // max(gpus(task), 1) for instance in known), default=0)
        room += int(group.number("MaxSize", 0)) * fit
    return room


@rule("T-capacity-provider")
def capacity_provider(assembly: Assembly) -> Found[Resource]:
    """A service is created after its capacity provider is associated with the cluster."""
    associations = assembly.of_kind("AWS::ECS::ClusterCapacityProviderAssociations")
    for service in assembly.of_kind("AWS::ECS::Service"):
        strategy = service.get("CapacityProviderStrategy", [])
        if bool(strategy) == ("LaunchType" in service.properties):
            yield (service, "a service needs either a capacity-provider strategy or a launch type")
        for entry in strategy:
            provider = assembly.target(service.template, entry["CapacityProvider"])
            known = [
                one
                for one in associations
                if provider in assembly.targets(one.template, one.get("CapacityProviders"))
                and assembly.follow(one, "Cluster") == assembly.follow(service, "Cluster")
            ]
            if provider is None or not known:
                yield (service, "its capacity provider is not associated with its cluster")
            elif not any(one.logical_id in service.depends_on for one in known):
                yield (
                    service,
                    f"it may be created before {known[0].logical_id} and deleted after it; add the "
                    "dependency (aws/containers-roadmap#631)",
                )
    for service, _ in engine_services(assembly):
        if not service.get("CapacityProviderStrategy"):
            yield (service, "GPU tasks need a capacity-provider strategy, not a launch type")


@rule("T-machine-image")
def machine_image(assembly: Assembly) -> Found[Resource]:
    """The AMI's driver is new enough for the CUDA version of the engine's image."""
    image = assembly.plan.catalog.engine
    for template in assembly.of_kind("AWS::EC2::LaunchTemplate"):
        name = str(template.get("LaunchTemplateData.ImageId")).removeprefix("resolve:ssm:")
        if name == assembly.plan.deployment.gpu.ami:
            continue  # pinned: `make doctor` looks it up
        driver = image.machine_images.get(name)
        if driver is None or driver < image.min_driver:
            works = next(one for one, has in image.machine_images.items() if has >= image.min_driver)
            yield (
                template,
                f"the AMI {name} has driver {driver or 'unknown'}, but CUDA {image.cuda} requires "
                f"{image.min_driver}; {works} has it",
            )
    for service, task in engine_services(assembly):
        for name in [name for group in groups(assembly, service) for name in instance_types(group)]:
            instance = assembly.plan.catalog.instances.get(name)
            if instance and instance.gpu.min_driver > assembly.plan.driver:
                yield (
                    task,
                    f"{name} needs driver {instance.gpu.min_driver}, the AMI has {assembly.plan.driver}",
                )


@rule("T-root-volume")
def root_volume(assembly: Assembly) -> Found[Resource]:
    """The root volume is encrypted and has room for two engine images during a release."""
    needed = root_volume_gb(assembly.plan.catalog.engine)
    for template in assembly.of_kind("AWS::EC2::LaunchTemplate"):
        mappings = template.get("LaunchTemplateData.BlockDeviceMappings", [])
        root = next((one.get("Ebs", {}) for one in mappings if one.get("DeviceName") == "/dev/xvda"), None)
        if root is None:
            yield (
                template,
                "it does not set /dev/xvda, the root device of Amazon Linux 2023, which then has 30 GB",
            )
            continue
        size = float(root.get("VolumeSize", 0)) * 2**30 / 1e9
        if size < needed:
            yield (
                template,
                f"the root volume has {size:.0f} GB but needs {needed}; raise gpu.root_volume_gib",
            )
        if root.get("Encrypted") is not True or root.get("VolumeType") != "gp3":
            yield (template, "the root volume must be encrypted and of type gp3")


@rule("T-metadata-service")
def metadata_service(assembly: Assembly) -> Found[Resource]:
    """IMDSv2 is required; otherwise a tool that fetches a URL could leak the instance's credentials."""
    for template in assembly.of_kind("AWS::EC2::LaunchTemplate"):
        options = template.get("LaunchTemplateData.MetadataOptions", {})
        if options.get("HttpTokens") != "required" or int(options.get("HttpPutResponseHopLimit", 1)) > 2:
            yield (template, "MetadataOptions must be HttpTokens: required, HttpPutResponseHopLimit: 2")
        script = assembly.text(template.template, template.get("LaunchTemplateData.UserData"))
        if "ECS_AWSVPC_BLOCK_IMDS=true" not in script:
            yield (template, "ECS_AWSVPC_BLOCK_IMDS=true is needed to hide the instance's role from tasks")


@rule("T-joins-cluster")
def joins_cluster(assembly: Assembly) -> Found[Resource]:
    """Instances name their cluster; otherwise they join one called `default`."""
    clusters = {service: assembly.follow(service, "Cluster") for service, _ in engine_services(assembly)}
    for service, cluster in clusters.items():
        for group in groups(assembly, service):
            template = _launch_template(assembly, group)
            if template is None or cluster is None:
                yield (group, "it has no launch template, or the service has no cluster")
                continue
            script = assembly.text(template.template, template.get("LaunchTemplateData.UserData"))
            if f"ECS_CLUSTER=${{{cluster.logical_id}}}" not in script:
                yield (template, f"UserData must set ECS_CLUSTER to {cluster.logical_id}")


@rule("T-zones")
def zones(assembly: Assembly) -> Found[Resource]:
    """The group spans several zones, since GPU capacity runs out zone by zone."""
    for group in assembly.of_kind("AWS::AutoScaling::AutoScalingGroup"):
        subnets = group.get("VPCZoneIdentifier", [])
        if len(subnets) < 2:
            yield (group, f"it spans {len(subnets)} subnet; set network.zones to at least 2")


@rule("T-model-cache")
def model_cache(assembly: Assembly) -> Found[Resource]:
    """Weights and compiled kernels are stored on the host, so that they outlive the task."""
    for _, task in engine_services(assembly):
        mounts = {one["ContainerPath"]: one for one in container(task).get("MountPoints", [])}
        mount = mounts.get(_CACHE_IN_CONTAINER)
        volumes = {one["Name"]: one.get("Host", {}).get("SourcePath") for one in task.get("Volumes", [])}
        path = volumes.get(mount["SourceVolume"]) if mount else None
        if path is None or (mount and mount.get("ReadOnly") is not False):
            yield (task, f"{_CACHE_IN_CONTAINER} must be a writable mount of a host path")


def launch_templates(assembly: Assembly, service: Resource) -> list[Resource]:
    """Returns the launch templates of the instances that a service's tasks run on."""
    found = [_launch_template(assembly, group) for group in groups(assembly, service)]
    return [template for template in found if template is not None]


def _launch_template(assembly: Assembly, group: Resource) -> Resource | None:
    return assembly.follow(
        group, "MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateId"
    )


RULES = (
    task_fits,
    rollout_ends,
    capacity_provider,
    machine_image,
    root_volume,
    metadata_service,
    joins_cluster,
    zones,
    model_cache,
)
