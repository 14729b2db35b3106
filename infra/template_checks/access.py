"""Rules on permissions, secrets and registries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from infra.deployment.checks.rule import Found, rule

from .template import Assembly, Resource, container, environment, listed, statements

_PULL = {"ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"}
_PUSH = {
    "ecr:BatchCheckLayerAvailability",
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
}
_LOG = {"logs:CreateLogStream", "logs:PutLogEvents"}
_READ_SECRET = {"secretsmanager:GetSecretValue"}
_AGENT = {
    "ecs:RegisterContainerInstance",
    "ecs:Poll",
    "ecs:DiscoverPollEndpoint",
    "ecs:SubmitTaskStateChange",
}


def _grants(assembly: Assembly, role: Resource | None) -> Iterator[tuple[set[str], list[Any], str]]:
    """Returns allowed actions with their resources, from a role's inline and attached policies."""
    if role is None:
        return
    policies = [role]
    for policy in assembly.of_kind("AWS::IAM::Policy"):
        if role in assembly.targets(policy.template, policy.get("Roles")):
            policies.append(policy)
    for policy in policies:
        for statement in statements(policy):
            if statement["Effect"] == "Allow":
                yield set(listed(statement["Action"])), listed(statement["Resource"]), policy.template


def _may(assembly: Assembly, role: Resource | None, actions: set[str], on: Resource | str) -> set[str]:
    """Returns the actions that the role lacks on a resource, which is in the templates or an ARN."""
    missing = set(actions)
    for allowed, resources, template in _grants(assembly, role):
        for resource in resources:
            if resource in ("*", on) or assembly.target(template, resource) == on:
                missing -= allowed
    return missing


@rule("T-wildcards")
def wildcards(assembly: Assembly) -> Found[Resource]:
    """Policies list actions by name: a `*` also allows unintended and future actions."""
    for kind in ("AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        for policy in assembly.of_kind(kind):
            if _of_framework(policy):
                continue
            for statement in statements(policy):
                wide = [one for one in listed(statement.get("Action", [])) if "*" in one]
                if wide and statement["Effect"] == "Allow":
                    yield (policy, f"it allows {', '.join(wide)}; list the actions by name")


def _of_framework(policy: Resource) -> bool:
    """Returns whether the CDK itself wrote the policy, for functions that empty a bucket."""
    return policy.logical_id.startswith("CustomS3AutoDeleteObjects")


@rule("T-execution-role")
def execution_role(assembly: Assembly) -> Found[Resource]:
    """The execution role may pull images, write logs and read secrets, without which ECS starts no task."""
    for task in assembly.of_kind("AWS::ECS::TaskDefinition"):
        role = assembly.follow(task, "ExecutionRoleArn")
        wanted: list[tuple[set[str], Resource | str]] = []
        secrets = [one["ValueFrom"] for one in container(task).get("Secrets", [])]
        injected = {assembly.target(task.template, value) or str(value) for value in secrets}
        wanted += [(_READ_SECRET, secret) for secret in injected]
        options = container(task).get("LogConfiguration", {}).get("Options", {})
        group = assembly.target(task.template, options.get("awslogs-group"))
        wanted += [(_LOG, group)] if group else []
        images = assembly.targets(task.template, container(task).get("Image"))
        wanted += [(_PULL, one) for one in images if one.kind == "AWS::ECR::Repository"]
        for actions, on in wanted:
            if missing := _may(assembly, role, actions, on):
                name = on if isinstance(on, str) else on.logical_id
                yield (task, f"its execution role lacks {', '.join(sorted(missing))} on {name}")
        for allowed, resources, template in _grants(assembly, role):
            for resource in resources if allowed & _READ_SECRET else []:
                if (assembly.target(template, resource) or str(resource)) not in injected:
                    yield (task, f"its execution role reads {resource}, which is not injected")


@rule("T-task-role")
def task_role(assembly: Assembly) -> Found[Resource]:
    """Task roles are minimal: the orchestrator may read its key hashes, the engine nothing."""
    for task in assembly.of_kind("AWS::ECS::TaskDefinition"):
        role = assembly.follow(task, "TaskRoleArn")
        reference = environment(task).get("API_KEYS_SECRET_ARN")
        secret = assembly.target(task.template, reference)
        if reference is not None and (secret is None or _may(assembly, role, _READ_SECRET, secret)):
            yield (task, "its task role cannot read the secret at API_KEYS_SECRET_ARN")
        for allowed, resources, template in _grants(assembly, role):
            targets = {assembly.target(template, resource) for resource in resources}
            if secret is None or allowed - _READ_SECRET or targets != {secret}:
                yield (task, f"its task role allows {', '.join(sorted(allowed))}, which it does not need")


@rule("T-trust")
def trust(assembly: Assembly) -> Found[Resource]:
    """Each role can only be assumed by the service it is for."""
    uses = {
        "AWS::ECS::TaskDefinition": ("ecs-tasks.amazonaws.com", ("ExecutionRoleArn", "TaskRoleArn")),
        "AWS::CodeBuild::Project": ("codebuild.amazonaws.com", ("ServiceRole",)),
        "AWS::Lambda::Function": ("lambda.amazonaws.com", ("Role",)),
        "AWS::EC2::FlowLog": ("vpc-flow-logs.amazonaws.com", ("DeliverLogsPermissionArn",)),
    }
    for kind, (service, paths) in uses.items():
        for user in assembly.of_kind(kind):
            for role in [assembly.follow(user, path) for path in paths]:
                principals = {
                    principal
                    for statement in (role.get("AssumeRolePolicyDocument.Statement", []) if role else [])
                    for principal in listed(statement["Principal"].get("Service", []))
                }
                if principals != {service}:
                    yield (role or user, f"{sorted(principals)} may assume it; only {service} should")


@rule("T-build-permissions")
def build_permissions(assembly: Assembly) -> Found[Resource]:
    """Image builds have their permissions; a missing one fails only after minutes of building."""
    for build in assembly.of_kind("Custom::ContainerImage"):
        project, function = assembly.follow(build, "Project"), assembly.follow(build, "ServiceToken")
        repository = assembly.follow(build, "Repository")
        if project is None or function is None or repository is None:
            yield (build, "it needs a project, a repository and the function that starts the build")
            continue
        builder, starter = assembly.follow(project, "ServiceRole"), assembly.follow(function, "Role")
        missing = _may(assembly, builder, _PUSH, repository)
        missing |= _may(assembly, builder, {"ecr:GetAuthorizationToken"}, "*")
        missing |= _may(assembly, starter, {"codebuild:StartBuild", "codebuild:BatchGetBuilds"}, project)
        missing |= _may(assembly, starter, {"ecr:DescribeImages"}, repository)
        if missing:
            yield (build, f"the build lacks {', '.join(sorted(missing))}")
        if not _told(assembly, project, function):
            yield (build, "no event reports the end of the build to the function, so CloudFormation waits")
        limit = float(build.number("ServiceTimeout", 3600)) / 60
        if limit <= project.number("TimeoutInMinutes", 60):
            yield (build, f"CloudFormation waits {limit:g} minutes, which is less than the build may take")


def _told(assembly: Assembly, project: Resource, function: Resource) -> bool:
    for event in assembly.of_kind("AWS::Events::Rule"):
        watched = assembly.targets(event.template, event.get("EventPattern.detail.project-name"))
        called = assembly.targets(event.template, event.get("Targets"))
        allowed = [
            permission
            for permission in assembly.of_kind("AWS::Lambda::Permission")
            if assembly.follow(permission, "SourceArn") == event
            and assembly.follow(permission, "FunctionName") == function
        ]
        if project in watched and function in called and allowed:
            return True
    return False


@rule("T-instance-role")
def instance_role(assembly: Assembly) -> Found[Resource]:
    """The ECS agent may register its instance, without which no instance gets a task."""
    clusters = assembly.of_kind("AWS::ECS::Cluster")
    for template in assembly.of_kind("AWS::EC2::LaunchTemplate"):
        profile = assembly.follow(template, "LaunchTemplateData.IamInstanceProfile.Arn")
        roles = assembly.targets(profile.template, profile.get("Roles")) if profile else set()
        missing = set(_AGENT)
        for role in roles:
            for cluster in clusters:
                missing &= _may(assembly, role, _AGENT, cluster)
        if missing:
            yield (template, f"its role lacks {', '.join(sorted(missing))}")


@rule("T-registries")
def registries(assembly: Assembly) -> Found[Resource]:
    """Image tags are immutable; otherwise a rollback could deploy the release that it should undo."""
    for repository in assembly.of_kind("AWS::ECR::Repository"):
        if repository.get("ImageTagMutability") != "IMMUTABLE":
            yield (repository, "ImageTagMutability must be IMMUTABLE")
        if repository.get("ImageScanningConfiguration.ScanOnPush") is not True:
            yield (repository, "ScanOnPush must be on")
        if not repository.get("LifecyclePolicy"):
            yield (repository, "without a lifecycle policy, every 12 GB image is kept and charged for")


@rule("T-generated-keys")
def generated_keys(assembly: Assembly) -> Found[Resource]:
    """Secrets are generated, since everyone who can read a template knows what is in it."""
    for secret in assembly.of_kind("AWS::SecretsManager::Secret"):
        text = secret.get("SecretString")
        length = secret.number("GenerateSecretString.PasswordLength", 32)
        if text is None and length < 32:
            yield (secret, f"its key has {length:g} characters; at least 32 are required")
        if text not in (None, "{}"):
            yield (secret, "its value is in the template; generate it instead")


@rule("T-imports")
def imports(assembly: Assembly) -> Found[Resource]:
    """Everything that one stack imports is exported by the other."""
    for resource, name in assembly.missing_imports():
        yield (resource, f"it imports {name}, which nothing exports")


RULES = (
    wildcards,
    execution_role,
    task_role,
    trust,
    build_permissions,
    instance_role,
    registries,
    generated_keys,
    imports,
)
