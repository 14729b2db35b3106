"""Checks the deployed services."""

from __future__ import annotations

from typing import Any

from ops.account import Account
from ops.engines import EngineService, engine_services
from ops.report import Result, Status

_ORCHESTRATOR = "orchestrator"
_STOPPED_SHOWN = 3

_REASONS = (
    (
        "outofmemory",
        "the container exceeded its memory limit",
        "raise gpu.task_memory_mib or orchestrator.memory_mib",
    ),
    (
        "exit code 137",
        "killed, because of its memory or, if make logs shows watchdog.py, because the engine hung",
        "raise gpu.task_memory_mib or orchestrator.memory_mib; for a hung engine, see make logs",
    ),
    (
        "cannotpullcontainer",
        "the image could not be pulled",
        "run make deploy to build it again; check the NAT gateway",
    ),
    (
        "resourceinitializationerror",
        "a secret or log group could not be reached",
        "check the secret's ARN in tandem.yaml",
    ),
    (
        "failed container health checks",
        "the model did not load in time",
        "raise gpu.startup_seconds; see make logs",
    ),
    ("failed elb health checks", "the orchestrator did not answer /v1/models", "make logs"),
    ("cuda", "an error of the GPU or its driver", "make logs; terminate the instance to get a new one"),
    (
        "spotinterruption",
        "AWS reclaimed the spot instance",
        "set gpu.capacity: on_demand, or several gpu.instance_types",
    ),
    ("essential container", "the container exited on its own", "make logs"),
)
_START_FAILURES = (
    ("cannotpullcontainer", "the image cannot be pulled"),
    ("unable to assume", "a role cannot be assumed"),
    ("no container instances were found", "no GPU instance has joined the cluster"),
    ("insufficient memory", "the task needs more memory than an instance has"),
    ("insufficient cpu", "the task needs more CPU than an instance has"),
    ("insufficient gpu", "all GPUs are in use"),
    ("unable to place a task", "no instance has room for the task"),
    ("deployment failed", "the circuit breaker stopped the deployment"),
)


def check_services(account: Account) -> list[Result]:
    """Checks task counts and rollouts of both services, and reports ECS events if one is not steady."""
    return [_service(described, tier) for tier, described in _services(account).items()]


def _services(account: Account) -> dict[str, Any]:
    outputs = account.outputs()
    ecs, found = account.client("ecs"), {}
    names = {one.service: (one.cluster, one.name) for one in engine_services(account)}
    names[outputs["OrchestratorService"]] = (outputs["ClusterName"], _ORCHESTRATOR)
    for cluster in dict.fromkeys(cluster for cluster, _ in names.values()):
        services = [service for service, (where, _) in names.items() if where == cluster]
        for one in ecs.describe_services(cluster=cluster, services=services)["services"]:
            found[names[one["serviceName"]][1]] = one
    return found


def _service(service: Any, tier: str) -> Result:
    primary: Any = next((one for one in service["deployments"] if one["status"] == "PRIMARY"), {})
    found = f"{tier}: {service['runningCount']} of {service['desiredCount']} tasks are running"
    state = primary.get("rolloutState", "COMPLETED")
    if state == "FAILED":
        reason = primary.get("rolloutStateReason", "")
        return Result(Status.ERROR, "services", f"{found}; the rollout failed: {reason}", "make logs")
    events = [event["message"] for event in service.get("events", [])[:5]]
    if service["runningCount"] < service["desiredCount"]:
        why = start_failure(events)
        said = f"; ECS says: {events[0]}" if events else ""
        return Result(
            Status.ERROR, "services", found + said, why or "wait, then run make doctor again; see make logs"
        )
    if state == "IN_PROGRESS":
        return Result(
            Status.WARNING, "services", f"{found}; a rollout is in progress", "run make doctor again later"
        )
    return Result(Status.OK, "services", found)


def start_failure(events: list[str]) -> str | None:
    """Returns why a service cannot start, if one of its ECS events shows the reason."""
    for event in events:
        lowered = event.lower()
        for mark, meaning in _START_FAILURES:
            if mark in lowered:
                return meaning
    return None


def check_stopped_tasks(account: Account) -> list[Result]:
    """Checks why tasks stopped. ECS remembers them for an hour."""
    ecs = account.client("ecs")
    tasks: list[Any] = []
    for cluster in {account.outputs()["ClusterName"], *(one.cluster for one in engine_services(account))}:
        if arns := ecs.list_tasks(cluster=cluster, desiredStatus="STOPPED")["taskArns"]:
            tasks += ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"]
    if not tasks:
        return [Result(Status.OK, "stopped tasks", "none in the last hour")]
    wrong = [task for task in tasks if not _was_asked(task)]
    wrong.sort(key=lambda task: str(task.get("stoppedAt", "")), reverse=True)
    if not wrong:
        return [Result(Status.OK, "stopped tasks", f"{len(tasks)}, all stopped by a release or by scaling")]
    return [_stopped(task) for task in wrong[:_STOPPED_SHOWN]]


def _was_asked(task: Any) -> bool:
    reason = str(task.get("stoppedReason", "")).lower()
    return "scaling activity" in reason or "deployment" in reason or task.get("stopCode") == "UserInitiated"


def _stopped(task: Any) -> Result:
    details = [str(task.get("stopCode", "")), str(task.get("stoppedReason", ""))]
    for container in task.get("containers", []):
        details.append(str(container.get("reason", "")))
        if container.get("exitCode") is not None:
            details.append(f"exit code {container['exitCode']}")
    said = "; ".join(dict.fromkeys(text for text in details[1:] if text)) or details[0]
    for mark, meaning, fix in _REASONS:
        if mark in " ".join(details).lower():
            return Result(Status.WARNING, "stopped tasks", f"{meaning} ({said})", fix)
    return Result(Status.WARNING, "stopped tasks", said, "make logs")


def check_targets(account: Account) -> list[Result]:
    """Checks the orchestrators' health, as seen by the load balancer."""
    service = _services(account)[_ORCHESTRATOR]
    elb = account.client("elbv2")
    results = []
    for balancer in service["loadBalancers"]:
        states = elb.describe_target_health(TargetGroupArn=balancer["targetGroupArn"])[
            "TargetHealthDescriptions"
        ]
        healthy = [one for one in states if one["TargetHealth"]["State"] == "healthy"]
        found = f"{len(healthy)} of {len(states)} orchestrators are healthy"
        if healthy:
            results.append(
                Result(Status.OK if len(healthy) == len(states) else Status.WARNING, "load balancer", found)
            )
        else:
            why = "; ".join(sorted({one["TargetHealth"].get("Description", "") for one in states} - {""}))
            results.append(Result(Status.ERROR, "load balancer", f"{found} {why}".rstrip(), "make logs"))
    return results


def check_capacity(account: Account) -> list[Result]:
    """Checks how many GPU instances have a connected ECS agent, for each model."""
    return [_instances(account, one) for one in engine_services(account)]


def _instances(account: Account, engines: EngineService) -> Result:
    ecs = account.client("ecs")
    wanted = engines.plan.instance_count
    arns = ecs.list_container_instances(cluster=engines.cluster)["containerInstanceArns"]
    described = (
        ecs.describe_container_instances(cluster=engines.cluster, containerInstances=arns) if arns else {}
    )
    instances = described.get("containerInstances", [])
    connected = [one for one in instances if one["agentConnected"] and one["status"] == "ACTIVE"]
    gpus = sum(
        len(resource.get("stringSetValue", []))
        for one in connected
        for resource in one["registeredResources"]
        if resource["name"] == "GPU"
    )
    found = f"{engines.whose}{len(connected)} of {wanted} instances are connected, with {gpus} GPUs"
    if foreign := _without_provider(instances):
        fix = f"aws ec2 terminate-instances --instance-ids {' '.join(foreign)}; managed scaling replaces them"
        what = f"{', '.join(foreign)} belong to no capacity provider, so no task is placed there"
        return Result(Status.ERROR, "GPU instances", f"{found}; {what}", fix)
    if len(connected) >= wanted and gpus > 0:
        return Result(Status.OK, "GPU instances", found)
    failure = _last_failure(account)
    fix = "add gpu.instance_types or network.availability_zones, to find GPUs more often"
    return Result(Status.ERROR, "GPU instances", f"{found}{failure}", fix)


def _without_provider(instances: list[Any]) -> list[str]:
    """Instances that registered before their capacity provider was associated with the cluster."""
    return [one["ec2InstanceId"] for one in instances if not one.get("capacityProviderName")]


def _last_failure(account: Account) -> str:
    """Returns Auto Scaling's last message about an instance that it could not start."""
    scaling = account.client("autoscaling")
    for group in scaling.describe_auto_scaling_groups()["AutoScalingGroups"]:
        if group["AutoScalingGroupName"].startswith(account.stack_names[1]):
            name = group["AutoScalingGroupName"]
            activities = scaling.describe_scaling_activities(AutoScalingGroupName=name)["Activities"]
            failed = [one for one in activities if one["StatusCode"] == "Failed"]
            if failed:
                return f"; Auto Scaling says: {failed[0].get('StatusMessage', '')}"
    return ""


def check_cloud_map(account: Account) -> list[Result]:
    """Compares the engines' DNS records with their tasks. An extra address belongs to a dead task."""
    services = _services(account)
    return [_records(account, one, services[one.name]) for one in engine_services(account)]


def _records(account: Account, engines: EngineService, engine: Any) -> Result:
    registered: set[str] = set()
    for registry in engine["serviceRegistries"]:
        service = registry["registryArn"].rpartition("/")[2]
        found = account.client("servicediscovery").list_instances(ServiceId=service)["Instances"]
        registered |= {one["Attributes"].get("AWS_INSTANCE_IPV4", "") for one in found}
    running = _addresses(account, engines)
    if registered == running:
        return Result(Status.OK, "Cloud Map", f"{engines.whose}{len(running)} engines, each with a record")
    stale, missing = sorted(registered - running), sorted(running - registered)
    parts = [
        f"{', '.join(stale)} without a task" if stale else "",
        f"{', '.join(missing)} not registered" if missing else "",
    ]
    fix = "wait a minute, then run aws ecs update-service --force-new-deployment for the engine"
    return Result(Status.WARNING, "Cloud Map", engines.whose + "; ".join(part for part in parts if part), fix)


def _addresses(account: Account, engines: EngineService) -> set[str]:
    cluster = engines.cluster
    ecs = account.client("ecs")
    arns = ecs.list_tasks(cluster=cluster, serviceName=engines.service, desiredStatus="RUNNING")["taskArns"]
    tasks = ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"] if arns else []
    return {
        detail["value"]
        for task in tasks
        for attachment in task.get("attachments", [])
        for detail in attachment.get("details", [])
        if detail["name"] == "privateIPv4Address"
    }
