"""Rules on the model's files in S3, and on how an engine reports its start."""

from __future__ import annotations

from collections.abc import Iterator

from infra.deployment.checks.rule import Found, rule
from infra.deployment.settings import HUB, MIRROR

from .builds import waits_for
from .gpu_instances import engine_services
from .security_groups import ENGINE_PORTS
from .template import Assembly, Resource, container, environment

_CACHES = "engine-cache/"


def _variables(assembly: Assembly, task: Resource) -> dict[str, str]:
    return {name: assembly.text(task.template, value) for name, value in environment(task).items()}


def _project_variables(assembly: Assembly, project: Resource) -> dict[str, tuple[str, str]]:
    """The variables of a CodeBuild project: each with its kind and its value."""
    entries = project.get("Environment.EnvironmentVariables", [])
    return {
        one["Name"]: (one.get("Type", "PLAINTEXT"), assembly.text(project.template, one["Value"]))
        for one in entries
    }


@rule("T-model-source")
def model_source(assembly: Assembly) -> Found[Resource]:
    """Engines read the model from where the deployment file says."""
    wanted = assembly.plan.deployment.model.source
    for _, task in engine_services(assembly):
        source = _variables(assembly, task).get("MODEL_SOURCE")
        if wanted == HUB and source:
            yield (task, f"MODEL_SOURCE is {source}, and model.source is hub")
        elif wanted == MIRROR and not (source or "").endswith(f"/{assembly.plan.model_prefix}"):
            yield (task, f"MODEL_SOURCE is {source}; the mirror is at {assembly.plan.model_prefix}")
        elif wanted.startswith("s3://") and source != wanted:
            yield (task, f"MODEL_SOURCE is {source}; it must be {wanted}")


@rule("T-model-mirror")
def model_mirror(assembly: Assembly) -> Found[Resource]:
    """An engine starts when the mirror of its model is complete; before, it would fail again and again."""
    if assembly.plan.deployment.model.source != MIRROR:
        return
    mirrors = assembly.of_kind("Custom::ModelMirror")
    for _, task in engine_services(assembly):
        source = _variables(assembly, task).get("MODEL_SOURCE", "")
        made = [one for one in mirrors if assembly.text(one.template, one.get("Target")) == source]
        if not made:
            yield (task, f"nothing copies the model to {source}")
        elif not any(waits_for(assembly, task, one) for one in made):
            yield (task, f"it must depend on {made[0].logical_id}, which copies the model")
    for mirror in mirrors:
        project = assembly.follow(mirror, "Project")
        if project is not None:
            yield from _copies(assembly, mirror, project)


def _copies(assembly: Assembly, mirror: Resource, project: Resource) -> Iterator[tuple[Resource, str]]:
    variables = _project_variables(assembly, project)
    model = assembly.plan.deployment.model
    for name, value in (
        ("TARGET", assembly.text(mirror.template, mirror.get("Target"))),
        ("MODEL", model.id),
        ("REVISION", assembly.plan.model_revision),
    ):
        found = variables.get(name, ("", ""))[1]
        if found != value:
            yield (project, f"it has {name}={found}; it must be {value}")
    token = model.hf_token_secret_arn
    if token and variables.get("HF_TOKEN") != ("SECRETS_MANAGER", token):
        yield (project, f"HF_TOKEN must come from {token} with the type SECRETS_MANAGER")


@rule("T-model-bucket")
def model_bucket(assembly: Assembly) -> Found[Resource]:
    """The bucket of weights and caches is private, and does not grow for ever."""
    for _, task in engine_services(assembly):
        variables = _variables(assembly, task)
        location = variables.get("CACHE_LOCATION")
        if bool(location) != ("MODEL_SOURCE" in variables):
            yield (task, "CACHE_LOCATION must be set where MODEL_SOURCE is, so that engines compile once")
        if not location:
            continue
        name = location.removeprefix("s3://").partition("/")[0]
        found = [
            one
            for one in assembly.of_kind("AWS::S3::Bucket")
            if assembly.text(one.template, one.get("BucketName")) == name
        ]
        if not found:
            yield (task, f"CACHE_LOCATION names {name}, which no stack creates")
        for bucket in found:
            yield from _keeps_order(bucket)


def _keeps_order(bucket: Resource) -> Iterator[tuple[Resource, str]]:
    blocked = bucket.get("PublicAccessBlockConfiguration", {})
    if not bucket.get("BucketEncryption") or not blocked or not all(blocked.values()):
        yield (bucket, "it must be encrypted and block public access")
    rules = [one for one in bucket.get("LifecycleConfiguration.Rules", []) if one.get("Status") == "Enabled"]
    if not any(one.get("Prefix") == _CACHES and one.get("ExpirationInDays") for one in rules):
        yield (bucket, f"objects below {_CACHES} must expire: each release makes new ones")
    if any(one.get("ExpirationInDays") and one.get("Prefix") != _CACHES for one in rules):
        yield (bucket, "weights must not expire: engines could not start any more")
    if not any(one.get("AbortIncompleteMultipartUpload") for one in rules):
        yield (bucket, "uploads that never end must be aborted; their parts are charged")


@rule("T-s3-endpoint")
def s3_endpoint(assembly: Assembly) -> Found[Resource]:
    """Weights and layers of images come through a gateway endpoint, which is free; NAT charges per GB."""
    subnets = assembly.of_kind("AWS::EC2::Subnet")
    private = [one for one in subnets if "Private" in one.logical_id or "private" in one.logical_id]
    endpoints = [
        one
        for one in assembly.of_kind("AWS::EC2::VPCEndpoint")
        if assembly.text(one.template, one.get("ServiceName")).endswith(".s3")
    ]
    routed = {
        table for one in endpoints for table in assembly.targets(one.template, one.get("RouteTableIds", []))
    }
    for association in assembly.of_kind("AWS::EC2::SubnetRouteTableAssociation"):
        subnet = assembly.follow(association, "SubnetId")
        table = assembly.follow(association, "RouteTableId")
        if subnet in private and table is not None and table not in routed:
            yield (table, "no gateway endpoint for S3 is in this route table of a private subnet")


@rule("T-start-report")
def start_report(assembly: Assembly) -> Found[Resource]:
    """The orchestrators can ask how far the start of an engine is, and CloudWatch learns its seconds."""
    for _, task in engine_services(assembly):
        variables = _variables(assembly, task)
        ports = {int(one["ContainerPort"]) for one in container(task).get("PortMappings", [])}
        if variables.get("STATUS_PORT") != str(ENGINE_PORTS[1]) or ENGINE_PORTS[1] not in ports:
            yield (task, f"STATUS_PORT must be {ENGINE_PORTS[1]}, and the container must map it")
        if variables.get("DEPLOYMENT_NAME") != assembly.plan.deployment.name:
            yield (
                task,
                f"DEPLOYMENT_NAME must be {assembly.plan.deployment.name}: metrics are looked up by it",
            )


RULES = (model_source, model_mirror, model_bucket, s3_endpoint, start_report)
