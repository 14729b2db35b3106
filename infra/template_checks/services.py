"""Rules on the two ECS services and their tasks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from infra.deployment.checks.rule import Found, rule
from infra.deployment.sizing import MAX_RETRIES, MAX_START_PERIOD_SECONDS

from .gpu_instances import engine_services, gpus
from .template import Assembly, Resource, container, environment

_FARGATE_MEMORY_GIB = {
    256: (0.5, 1, 2),
    512: tuple(range(1, 5)),
    1024: tuple(range(2, 9)),
    2048: tuple(range(4, 17)),
    4096: tuple(range(8, 31)),
    8192: tuple(range(16, 61, 4)),
    16384: tuple(range(32, 121, 8)),
}
"""GiB of memory by CPU units (Amazon ECS developer guide, task definition parameters for Fargate)."""

_MOST_STOP_SECONDS = 120
_MOST_INTERVAL_SECONDS = 300
_MOST_HANG_SECONDS = 60


def orchestrator_services(assembly: Assembly) -> Iterator[tuple[Resource, Resource]]:
    """Returns the services behind a load balancer, with their task definitions."""
    for service in assembly.of_kind("AWS::ECS::Service"):
        task = assembly.follow(service, "TaskDefinition")
        if task is not None and not gpus(task):
            yield service, task


@rule("T-both-tiers")
def both_tiers(assembly: Assembly) -> Found[Resource]:
    """There is one engine service and one orchestrator service, each with one container."""
    engines, orchestrators = list(engine_services(assembly)), list(orchestrator_services(assembly))
    if (len(engines), len(orchestrators)) != (1, 1):
        for service in assembly.of_kind("AWS::ECS::Service"):
            yield (
                service,
                f"{len(engines)} services request GPUs and {len(orchestrators)} do not; expected one each",
            )
    for _, task in engines:
        if gpus(task) != assembly.plan.deployment.gpu.gpus_per_task:
            yield (task, f"it requests {gpus(task)} GPUs, which differs from gpu.gpus_per_task")
        if str(environment(task).get("TENSOR_PARALLEL_SIZE", "1")) != str(gpus(task)):
            yield (
                task,
                f"TENSOR_PARALLEL_SIZE must be {gpus(task)}, the number of GPUs that the task requests",
            )


@rule("T-health-check")
def health_check(assembly: Assembly) -> Found[Resource]:
    """The engine's health check allows enough time to load the model."""
    for _, task in engine_services(assembly):
        check = container(task).get("HealthCheck")
        if not check:
            yield (task, "the engine needs a health check: its port is open before the model is loaded")
            continue
        start, interval, retries = (int(check.get(n, 0)) for n in ("StartPeriod", "Interval", "Retries"))
        if start > MAX_START_PERIOD_SECONDS or interval > _MOST_INTERVAL_SECONDS or retries > MAX_RETRIES:
            yield (task, "ECS allows a StartPeriod of 300 s, an Interval of 300 s and 10 Retries")
        given, needed = start + interval * retries, assembly.plan.load_seconds
        if needed is not None and given < needed:
            yield (
                task,
                f"the engine has {given} s to load but needs {needed:.0f} s; "
                f"gpu.startup_seconds: {needed:.0f}",
            )
        ports = [str(one["ContainerPort"]) for one in container(task).get("PortMappings", [])]
        command = " ".join(str(word) for word in check.get("Command", []))
        if not any(f"http://127.0.0.1:{port}/health" in command for port in ports):
            yield (task, f"the health check must request http://127.0.0.1:PORT/health, with PORT in {ports}")


@rule("T-engine-url")
def engine_url(assembly: Assembly) -> Found[Resource]:
    """The orchestrator uses the name and port under which the engines are registered."""
    urls = {_engine_url(assembly, service, task) for service, task in engine_services(assembly)}
    for _, task in orchestrator_services(assembly):
        models = environment(task).get("MODELS")
        given = (
            [one.get("url") for one in json.loads(models)] if models else [environment(task).get("VLLM_URL")]
        )
        if not urls or not urls <= {*given}:
            there = ", ".join(map(str, urls)) or "no URL"
            variable = "MODELS has" if models else "VLLM_URL is"
            yield (task, f"{variable} {', '.join(map(str, given))}, but the engines are at {there}")


def _engine_url(assembly: Assembly, service: Resource, task: Resource) -> str | None:
    ports = [one["ContainerPort"] for one in container(task).get("PortMappings", [])]
    if str(environment(task).get("PORT", 8000)) not in [str(port) for port in ports]:
        return None
    for registry in service.get("ServiceRegistries", []):
        entry = assembly.target(service.template, registry["RegistryArn"])
        namespace = entry and (
            assembly.follow(entry, "DnsConfig.NamespaceId") or assembly.follow(entry, "NamespaceId")
        )
        if entry and namespace:
            return f"http://{entry.get('Name')}.{namespace.get('Name')}:{environment(task).get('PORT', 8000)}"
    return None


@rule("T-service-discovery")
def service_discovery(assembly: Assembly) -> Found[Resource]:
    """Engines have their own network interface and are registered with A records."""
    for service, task in engine_services(assembly):
        if task.get("NetworkMode") != "awsvpc":
            yield (task, f"NetworkMode is {task.get('NetworkMode')}, but A records require awsvpc")
        registries = service.get("ServiceRegistries", [])
        if not registries:
            yield (service, "it is not registered, so no orchestrator finds it")
        for registry in registries:
            entry = assembly.target(service.template, registry["RegistryArn"])
            records = entry.get("DnsConfig.DnsRecords", []) if entry else []
            if [record["Type"] for record in records] != ["A"]:
                yield (service, f"it is registered with {records}; it must have one A record")
            if any(int(record["TTL"]) > 60 for record in records):
                yield (service, "its DNS record is cached for more than a minute")
            if entry and "HealthCheckConfig" in entry.properties:
                yield (entry, "Route 53 cannot check private addresses; use HealthCheckCustomConfig")


@rule("T-circuit-breaker")
def circuit_breaker(assembly: Assembly) -> Found[Resource]:
    """The circuit breaker is on; without it CloudFormation waits three hours for a failing release."""
    for service in assembly.of_kind("AWS::ECS::Service"):
        breaker = service.get("DeploymentConfiguration.DeploymentCircuitBreaker", {})
        if breaker.get("Enable") is not True or breaker.get("Rollback") is not True:
            yield (service, "DeploymentCircuitBreaker must be enabled, with rollback")


@rule("T-stop-timeout")
def stop_timeout(assembly: Assembly) -> Found[Resource]:
    """Tasks are killed only after their requests have ended, so that no answer is cut off."""
    deadline = assembly.plan.deployment.orchestrator.request_timeout_seconds
    for _, task in engine_services(assembly):
        drain, stop = _drain_and_stop(task, "SHUTDOWN_TIMEOUT", default=0)
        if not deadline <= drain < stop:
            yield (
                task,
                f"a request may last {deadline} s, the engine lets it finish for {drain:g} s "
                f"(SHUTDOWN_TIMEOUT), and is killed after {stop} s (StopTimeout); SHUTDOWN_TIMEOUT must be "
                f"at least {deadline}, and StopTimeout more than that",
            )
    for _, task in orchestrator_services(assembly):
        drain, stop = _drain_and_stop(task, "STOP_SECONDS", default=110)
        if not drain < stop <= _MOST_STOP_SECONDS:
            yield (
                task,
                f"requests end after {drain:g} s (STOP_SECONDS) and the task is killed after {stop} s "
                f"(StopTimeout); StopTimeout must be more, and at most Fargate's {_MOST_STOP_SECONDS}",
            )
        if float(environment(task).get("DRAIN_SECONDS", 0)) > drain:
            yield (task, f"DRAIN_SECONDS exceeds the {drain:g} s after which requests end")


def _drain_and_stop(task: Resource, variable: str, *, default: float) -> tuple[float, int]:
    drain = float(environment(task).get(variable) or default)
    return drain, int(container(task).get("StopTimeout", 30))


@rule("T-hung-engine")
def hung_engine(assembly: Assembly) -> Found[Resource]:
    """A hung engine is replaced within a minute, before the health check gives up."""
    for _, task in engine_services(assembly):
        seconds = float(environment(task).get("HANG_SECONDS", 0))
        if not 0 < seconds <= _MOST_HANG_SECONDS:
            yield (
                task,
                f"HANG_SECONDS is {seconds:g}, so the watchdog does not end a hung engine in time; it must "
                f"be from 1 to {_MOST_HANG_SECONDS}",
            )
        if container(task).get("LinuxParameters", {}).get("InitProcessEnabled") is not True:
            yield (
                task,
                "InitProcessEnabled must be true: without an init process, nothing ends the workers of an "
                "engine that died",
            )


@rule("T-scaling")
def scaling(assembly: Assembly) -> Found[Resource]:
    """The orchestrator scales on its CPU, without a fixed count that would reset it with every release."""
    settings = assembly.plan.deployment.orchestrator
    scaled = assembly.of_kind("AWS::ApplicationAutoScaling::ScalableTarget")
    policies = assembly.of_kind("AWS::ApplicationAutoScaling::ScalingPolicy")
    for service, _ in orchestrator_services(assembly):
        if "DesiredCount" in service.properties:
            yield (service, "DesiredCount must not be set")
        mine = [one for one in scaled if service in assembly.targets(one.template, one.get("ResourceId"))]
        if not mine:
            yield (service, "it has no scalable target")
        for target in mine:
            bounds = (target.get("MinCapacity"), target.get("MaxCapacity"))
            if bounds != (settings.min_tasks, settings.max_tasks):
                yield (
                    target,
                    f"it scales from {bounds[0]} to {bounds[1]} tasks, which differs from the settings",
                )
            if not any(assembly.follow(one, "ScalingTargetId") == target for one in policies):
                yield (target, "it has no scaling policy")
    for policy in policies:
        if policy.get("PolicyType") == "StepScaling":
            continue  # of the engines: engine_scaling.py
        metric = policy.get(
            "TargetTrackingScalingPolicyConfiguration.PredefinedMetricSpecification.PredefinedMetricType"
        )
        if metric != "ECSServiceAverageCPUUtilization":
            yield (policy, f"it tracks {metric}, not the service's CPU")


@rule("T-fargate-size")
def fargate_size(assembly: Assembly) -> Found[Resource]:
    """CPU and memory are a combination that Fargate supports."""
    for _, task in orchestrator_services(assembly):
        cpu, memory = int(task.get("Cpu", 0)), int(task.get("Memory", 0))
        if memory / 1024 not in _FARGATE_MEMORY_GIB.get(cpu, ()):
            yield (task, f"Fargate does not support {cpu} CPU units with {memory} MiB")
        if "FARGATE" not in task.get("RequiresCompatibilities", []):
            yield (task, "it must be compatible with FARGATE")


@rule("T-architecture")
def architecture(assembly: Assembly) -> Found[Resource]:
    """Images are built for the CPU they run on; others fail with `exec format error`."""
    machines = {"LINUX_CONTAINER": "X86_64", "ARM_CONTAINER": "ARM64"}
    builds = {(one.template, one.logical_id): one for one in assembly.of_kind("Custom::ContainerImage")}
    for _, task in [*engine_services(assembly), *orchestrator_services(assembly)]:
        wanted = task.get("RuntimePlatform.CpuArchitecture", "X86_64")
        for build in [builds[task.template, i] for i in task.depends_on if (task.template, i) in builds]:
            project = assembly.follow(build, "Project")
            built = machines.get(project.get("Environment.Type")) if project else None
            if built != wanted:
                yield (task, f"it runs on {wanted}, but its image is built for {built}")


@rule("T-image")
def image(assembly: Assembly) -> Found[Resource]:
    """The task definition uses the image that was built for it, and waits for the build."""
    builds = assembly.of_kind("Custom::ContainerImage")
    if assembly.plan.deployment.images.build == "local":
        return
    for _, task in [*engine_services(assembly), *orchestrator_services(assembly)]:
        name = container(task).get("Image")
        tag = assembly.text(task.template, name).rpartition(":")[2]
        build = next((one for one in builds if one.logical_id in task.depends_on), None)
        if build is None:
            yield (task, "it must depend on the build of its image")
        elif build.get("ImageTag") != tag:
            yield (task, f"its image is {tag}, but {build.get('ImageTag')} is built")
        elif assembly.follow(build, "Repository") not in _repositories(assembly, task.template, name):
            yield (task, "its image is in a different repository from the one built")


def _repositories(assembly: Assembly, template: str, name: Any) -> set[Resource]:
    return {one for one in assembly.targets(template, name) if one.kind == "AWS::ECR::Repository"}


@rule("T-logs")
def logs(assembly: Assembly) -> Found[Resource]:
    """Every container logs to a log group, and every log group has a retention."""
    for task in assembly.of_kind("AWS::ECS::TaskDefinition"):
        options = container(task).get("LogConfiguration", {}).get("Options", {})
        if assembly.target(task.template, options.get("awslogs-group")) is None:
            yield (task, "its container must log to a log group of this app")
    for group in assembly.of_kind("AWS::Logs::LogGroup"):
        if group.get("RetentionInDays") != assembly.plan.deployment.logs.retention_days:
            yield (group, f"its retention must be {assembly.plan.deployment.logs.retention_days} days")


@rule("T-plain-secrets")
def plain_secrets(assembly: Assembly) -> Found[Resource]:
    """Secrets are injected, since everyone who may describe a task definition can read its environment."""
    secret = re.compile("KEY$|TOKEN|PASSWORD|SECRET$|DATABASE_URL")
    needed = {"orchestrator": {"BOOTSTRAP_API_KEY", "VLLM_API_KEY"}, "engine": {"VLLM_API_KEY"}}
    for tier, services in (
        ("engine", engine_services(assembly)),
        ("orchestrator", orchestrator_services(assembly)),
    ):
        for _, task in services:
            for name in filter(secret.search, environment(task)):
                yield (task, f"{name} must be injected as a secret")
            given = {one["Name"] for one in container(task).get("Secrets", [])}
            for name in needed[tier] - given:
                yield (task, f"{name} is not injected, so the tier is either open or unusable")


RULES = (
    both_tiers,
    health_check,
    engine_url,
    service_discovery,
    circuit_breaker,
    stop_timeout,
    hung_engine,
    scaling,
    fargate_size,
    architecture,
    image,
    logs,
    plain_secrets,
)
