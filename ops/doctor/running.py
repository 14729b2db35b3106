"""How the deployed services are."""

from __future__ import annotations

from typing import Any

from ops.account import Account
from ops.report import Mark, Result

_TIERS = {"EngineService": "engine", "OrchestratorService": "orchestrator"}
_STOPPED_SHOWN = 3

_REASONS = (
    (
        "outofmemory",
        "the container took more memory than it may",
        "gpu.task_memory_mib, or orchestrator.memory_mib",
    ),
    ("exit code 137", "killed, mostly for its memory", "gpu.task_memory_mib, or orchestrator.memory_mib"),
    (
        "cannotpullcontainer",
        "the image could not be pulled",
        "make deploy builds it again; look at the NAT gateway",
    ),
    (
        "resourceinitializationerror",
        "a secret or log group could not be reached",
        "the secret's ARN in tandem.yaml",
    ),
    (
        "failed container health checks",
        "the model did not load in time",
        "gpu.startup_seconds, and make logs",
    ),
    ("failed elb health checks", "the orchestrator did not answer /v1/models", "make logs"),
    ("cuda", "the GPU or its driver", "make logs; a new instance: terminate the one there is"),
    (
        "spotinterruption",
        "AWS took the spot instance back",
        "gpu.capacity: on_demand, or several gpu.instance_types",
    ),
    ("essential container", "the container ended by itself", "make logs"),
)
_HOPELESS = (
    ("cannotpullcontainer", "the image cannot be pulled"),
    ("unable to assume", "a role cannot be assumed"),
    ("no container instances were found", "no GPU instance has joined the cluster"),
    ("insufficient memory", "the task asks for more memory than an instance has"),
    ("insufficient cpu", "the task asks for more CPU than an instance has"),
    ("insufficient gpu", "all GPUs are taken"),
    ("unable to place a task", "no instance has room for the task"),
    ("deployment failed", "the circuit breaker has ended the deployment"),
)


def look_at_services(account: Account) -> list[Result]:
    """Counts and rollout of both; what ECS says where one is not steady."""
    return [_service(described, tier) for tier, described in _services(account).items()]


def _services(account: Account) -> dict[str, Any]:
    outputs = account.outputs()
    names = {outputs[output]: tier for output, tier in _TIERS.items()}
    ecs = account.client("ecs")
    described = ecs.describe_services(cluster=outputs["ClusterName"], services=list(names))["services"]
    return {names[one["serviceName"]]: one for one in described}


def _service(service: Any, tier: str) -> Result:
    primary: Any = next((one for one in service["deployments"] if one["status"] == "PRIMARY"), {})
    found = f"{tier}: {service['runningCount']} of {service['desiredCount']} tasks run"
    state = primary.get("rolloutState", "COMPLETED")
    if state == "FAILED":
        reason = primary.get("rolloutStateReason", "")
        return Result(Mark.WRONG, "services", f"{found}; the rollout failed: {reason}", "make logs")
    events = [event["message"] for event in service.get("events", [])[:5]]
    if service["runningCount"] < service["desiredCount"]:
        why = hopeless(events)
        said = f"; ECS says: {events[0]}" if events else ""
        return Result(Mark.WRONG, "services", found + said, why or "wait, then make doctor again; make logs")
    if state == "IN_PROGRESS":
        return Result(
            Mark.WARNING, "services", f"{found}; a rollout is under way", "wait, then make doctor again"
        )
    return Result(Mark.OK, "services", found)


def hopeless(events: list[str]) -> str | None:
    """Why the service cannot start, where one of ECS' events shows it."""
    for event in events:
        lowered = event.lower()
        for mark, meaning in _HOPELESS:
            if mark in lowered:
                return meaning
    return None


def look_at_stopped_tasks(account: Account) -> list[Result]:
    """The last ones that ended, which ECS keeps for an hour, and why."""
    cluster = account.outputs()["ClusterName"]
    ecs = account.client("ecs")
    arns = ecs.list_tasks(cluster=cluster, desiredStatus="STOPPED")["taskArns"]
    if not arns:
        return [Result(Mark.OK, "stopped tasks", "none in the last hour")]
    tasks = ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"]
    wrong = [task for task in tasks if not _was_asked(task)]
    wrong.sort(key=lambda task: str(task.get("stoppedAt", "")), reverse=True)
    if not wrong:
        return [
            Result(Mark.OK, "stopped tasks", f"{len(tasks)}, all of them asked to by a release or by scaling")
        ]
    return [_stopped(task) for task in wrong[:_STOPPED_SHOWN]]


def _was_asked(task: Any) -> bool:
    reason = str(task.get("stoppedReason", "")).lower()
    return "scaling activity" in reason or "deployment" in reason or task.get("stopCode") == "UserInitiated"


def _stopped(task: Any) -> Result:
    told = [str(task.get("stopCode", "")), str(task.get("stoppedReason", ""))]
    for container in task.get("containers", []):
        told.append(str(container.get("reason", "")))
        if container.get("exitCode") is not None:
            told.append(f"exit code {container['exitCode']}")
    said = "; ".join(dict.fromkeys(text for text in told[1:] if text)) or told[0]
    for mark, meaning, fix in _REASONS:
        if mark in " ".join(told).lower():
            return Result(Mark.WARNING, "stopped tasks", f"{meaning} ({said})", fix)
    return Result(Mark.WARNING, "stopped tasks", said, "make logs")


def look_at_targets(account: Account) -> list[Result]:
    """The orchestrators as the load balancer sees them."""
    service = _services(account)["orchestrator"]
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
                Result(Mark.OK if len(healthy) == len(states) else Mark.WARNING, "load balancer", found)
            )
        else:
            why = "; ".join(sorted({one["TargetHealth"].get("Description", "") for one in states} - {""}))
            results.append(Result(Mark.WRONG, "load balancer", f"{found} {why}".rstrip(), "make logs"))
    return results


def look_at_capacity(account: Account) -> list[Result]:
    """GPU instances in the group, and those whose ECS agent is connected."""
    cluster = account.outputs()["ClusterName"]
    ecs = account.client("ecs")
    wanted = account.plan.instance_count
    arns = ecs.list_container_instances(cluster=cluster)["containerInstanceArns"]
    described = ecs.describe_container_instances(cluster=cluster, containerInstances=arns) if arns else {}
    instances = described.get("containerInstances", [])
    connected = [one for one in instances if one["agentConnected"] and one["status"] == "ACTIVE"]
    gpus = sum(
        len(resource.get("stringSetValue", []))
        for one in connected
        for resource in one["registeredResources"]
        if resource["name"] == "GPU"
    )
    found = f"{len(connected)} of {wanted} instances are connected, with {gpus} GPUs"
    if len(connected) >= wanted and gpus > 0:
        return [Result(Mark.OK, "GPU instances", found)]
    failure = _last_failure(account)
    fix = "gpu.instance_types and network.availability_zones: more of them find GPUs more often"
    return [Result(Mark.WRONG, "GPU instances", f"{found}{failure}", fix)]


def _last_failure(account: Account) -> str:
    """What Auto Scaling said last, where it could not start an instance."""
    scaling = account.client("autoscaling")
    for group in scaling.describe_auto_scaling_groups()["AutoScalingGroups"]:
        if group["AutoScalingGroupName"].startswith(account.stack_names[1]):
            name = group["AutoScalingGroupName"]
            activities = scaling.describe_scaling_activities(AutoScalingGroupName=name)["Activities"]
            failed = [one for one in activities if one["StatusCode"] == "Failed"]
            if failed:
                return f"; Auto Scaling says: {failed[0].get('StatusMessage', '')}"
    return ""


def look_at_cloud_map(account: Account) -> list[Result]:
    """The engine's record against its running tasks; an address too many is a dead one."""
    engine = _services(account)["engine"]
    registered: set[str] = set()
    for registry in engine["serviceRegistries"]:
        service = registry["registryArn"].rpartition("/")[2]
        found = account.client("servicediscovery").list_instances(ServiceId=service)["Instances"]
        registered |= {one["Attributes"].get("AWS_INSTANCE_IPV4", "") for one in found}
    running = _addresses(account, engine["serviceName"])
    if registered == running:
        return [Result(Mark.OK, "Cloud Map", f"{len(running)} engines, each with its record")]
    stale, missing = sorted(registered - running), sorted(running - registered)
    parts = [
        f"{', '.join(stale)} lead to no task" if stale else "",
        f"{', '.join(missing)} missing" if missing else "",
    ]
    fix = "wait a minute; then aws ecs update-service --force-new-deployment for the engine"
    return [Result(Mark.WARNING, "Cloud Map", "; ".join(part for part in parts if part), fix)]


def _addresses(account: Account, service: str) -> set[str]:
    cluster = account.outputs()["ClusterName"]
    ecs = account.client("ecs")
    arns = ecs.list_tasks(cluster=cluster, serviceName=service, desiredStatus="RUNNING")["taskArns"]
    tasks = ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"] if arns else []
    return {
        detail["value"]
        for task in tasks
        for attachment in task.get("attachments", [])
        for detail in attachment.get("details", [])
        if detail["name"] == "privateIPv4Address"
    }
