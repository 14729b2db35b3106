"""Who calls AWS in a deployment: what each role is used for, and the resources that its calls are about."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..template import Assembly, Resource, container, environment
from .arns import ACCOUNT, REGION, Arns

_HERE = f"{REGION}:{ACCOUNT}"
_REPOSITORY = f"arn:aws:ecr:{_HERE}:repository"
_TARGET = f"arn:aws:application-autoscaling:{_HERE}:scalable-target/0"
_NAMES_OF_OTHERS = {
    "another_service": [f"arn:aws:ecs:{_HERE}:service/payroll/payroll"],
    "everything": ["*"],
    "account": [ACCOUNT],
    "another_account": ["999999999999"],
    "another_role": [f"arn:aws:iam::{ACCOUNT}:role/administrator"],
    "another_secret": [f"arn:aws:secretsmanager:{_HERE}:secret:payroll-AbCdEf"],
    "another_object": ["arn:aws:s3:::payroll/2026.csv"],
    "another_repository": [f"{_REPOSITORY}/payroll"],
    "another_task_definition": [f"arn:aws:ecs:{_HERE}:task-definition/payroll:1"],
    "another_function": [f"arn:aws:lambda:{_HERE}:function:payroll"],
    "another_group": [f"arn:aws:autoscaling:{_HERE}:autoScalingGroup:1:autoScalingGroupName/payroll"],
    "another_table": [f"arn:aws:dynamodb:{_HERE}:table/payroll"],
    "another_cluster": [f"arn:aws:ecs:{_HERE}:cluster/payroll"],
    "another_project": [f"arn:aws:codebuild:{_HERE}:project/payroll"],
    "another_event_rule": [f"arn:aws:events:{_HERE}:rule/payroll"],
    "container_instance_of_another_cluster": [f"arn:aws:ecs:{_HERE}:container-instance/payroll/1"],
    "alarm_of_another_account": [f"arn:aws:cloudwatch:{REGION}:999999999999:alarm:payroll"],
}

Names = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Caller:
    """One use of a role, or of a resource by an AWS service.

    Attributes:
        kind: its entry in requests.yaml.
        user: what uses the role; the resource that is called, where a service calls.
        role: the role, unless a service calls.
        names: the resources by the names that its entry uses.
    """

    kind: str
    user: Resource
    role: Resource | None
    names: Names


def callers(assembly: Assembly) -> Iterator[Caller]:
    """Every caller whose calls are known."""
    finder = _Finder(assembly)
    yield from finder.tasks()
    yield from finder.instances()
    yield from finder.builds()
    yield from finder.functions()
    yield from finder.flow_logs()
    yield from finder.services()


class _Finder:
    """Finds the callers of one deployment."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._arns = Arns(assembly)
        self._secrets = self._all("AWS::SecretsManager::Secret")
        self._clusters = self._all("AWS::ECS::Cluster")
        # Messages to a shell have no resource.
        self._shell = ["*"] if assembly.plan.deployment.gpu.shell else []

    def tasks(self) -> Iterator[Caller]:
        for task in self._assembly.of_kind("AWS::ECS::TaskDefinition"):
            yield self._caller("task_execution", task, "ExecutionRoleArn", self._execution(task))
            if any(one["Type"] == "GPU" for one in container(task).get("ResourceRequirements", [])):
                names = {
                    "secret": self._secrets,
                    "cluster": self._clusters,
                    "shell": self._shell,
                    "usage_table": self._all("AWS::DynamoDB::Table"),
                }
                names |= self._model_files(task)
                yield self._caller("engine_task", task, "TaskRoleArn", names)
            else:
                reference = environment(task).get("API_KEYS_SECRET_ARN")
                hashes = [self._arns.text(task.template, reference)] if reference else []
                table = self._arns.text(task.template, environment(task).get("LIMITS_TABLE") or "")
                tables = [f"arn:aws:dynamodb:{_HERE}:table/{table}"] if table else []
                names = {
                    "key_hashes": hashes,
                    "secret_but_key_hashes": _without(self._secrets, hashes),
                    "usage_table": tables,
                    "traces": ["*"] if len(task.get("ContainerDefinitions") or []) > 1 else [],
                }
                yield self._caller("orchestrator_task", task, "TaskRoleArn", names)

    def _model_files(self, task: Resource) -> dict[str, list[str]]:
        places = {}
        for name, variable in (("model_object", "MODEL_SOURCE"), ("cache_object", "CACHE_LOCATION")):
            place = self._arns.text(task.template, environment(task).get(variable) or "")
            places[name] = [_object_of(place)] if place else []
        adapters = json.loads(environment(task).get("ADAPTERS") or "[]")
        named = [one["source"] for one in adapters] + [environment(task).get("ADAPTERS_FROM") or ""]
        sources = sorted(source.rstrip("/") for source in named if source.startswith("s3://"))
        places["adapter_object"] = [_object_of(source) for source in sources]
        buckets = {one.partition("/")[0] for objects in places.values() for one in objects}
        return {**places, "model_bucket": sorted(buckets)}

    def _execution(self, task: Resource) -> Names:
        box = container(task)
        image = self._arns.text(task.template, box.get("Image"))
        registry, _, repository = image.partition("/")
        # The reference may end in `:JSON key:version stage:version id`, of which the ARN has nothing.
        values = [self._arns.text(task.template, one["ValueFrom"]) for one in box.get("Secrets", [])]
        injected = [":".join(value.split(":")[:7]) for value in values]
        group = box.get("LogConfiguration", {}).get("Options", {}).get("awslogs-group")
        repositories = [f"{_REPOSITORY}/{_name(repository)}"] if ".dkr.ecr." in registry else []
        return {
            "image_repository": repositories,
            "log_stream": [self._stream(self._arns.text(task.template, group))] if group else [],
            "injected_secret": injected,
            "secret_not_injected": _without(self._secrets, injected),
        }

    def instances(self) -> Iterator[Caller]:
        for launch in self._assembly.of_kind("AWS::EC2::LaunchTemplate"):
            profile = self._assembly.follow(launch, "LaunchTemplateData.IamInstanceProfile.Arn")
            roles = self._assembly.targets(profile.template, profile.get("Roles")) if profile else [None]
            clusters = self._joined(launch)
            instances = [one.replace(":cluster/", ":container-instance/") + "/1" for one in clusters]
            names = {
                "cluster": clusters,
                "container_instance": instances,
                "shell": self._shell,
                "instance_with_shell": [f"arn:aws:ec2:{_HERE}:instance/i-1"] if self._shell else [],
            }
            for role in roles:
                yield Caller("ecs_agent", launch, role, {**_NAMES_OF_OTHERS, **names})

    def _joined(self, launch: Resource) -> list[str]:
        """The cluster that the instances of a launch template join; every one if it does not say."""
        script = self._assembly.text(launch.template, launch.get("LaunchTemplateData.UserData"))
        clusters = self._assembly.of_kind("AWS::ECS::Cluster")
        named = [one for one in clusters if f"ECS_CLUSTER=${{{one.logical_id}}}" in script]
        return [self._arns.arn(one) for one in named] or self._clusters

    def builds(self) -> Iterator[Caller]:
        for project in self._assembly.of_kind("AWS::CodeBuild::Project"):
            group = project.get("LogsConfig.CloudWatchLogs.GroupName")
            images = [one for one in self._images() if self._assembly.follow(one, "Project") == project]
            is_mirror = any(one.kind == "Custom::ModelMirror" for one in images)
            assets = [f"arn:aws:s3:::{self._arns.text(one.template, one.get('Source'))}" for one in images]
            own = self._repositories(images)
            names = {
                "log_stream": [self._stream(self._arns.text(project.template, group))] if group else [],
                "asset": assets,
                "another_asset": [f"{asset.partition('/')[0]}/another.zip" for asset in assets],
                "repository": own,
                "repository_of_another_build": _without(self._all("AWS::ECR::Repository"), own),
                "secret": self._secrets,
            }
            if is_mirror:
                names |= self._mirrored(project, images)
            kind = "model_mirror" if is_mirror else "image_build"
            yield self._caller(kind, project, "ServiceRole", names)

    def _mirrored(self, project: Resource, mirrors: list[Resource]) -> dict[str, list[str]]:
        objects = [_object_of(self._arns.text(one.template, one.get("Target"))) for one in mirrors]
        variables = project.get("Environment.EnvironmentVariables", [])
        return {
            "model_object": objects,
            "model_bucket": [one.partition("/")[0] for one in objects],
            "hub_token": [one["Value"] for one in variables if one.get("Type") == "SECRETS_MANAGER"],
        }

    def functions(self) -> Iterator[Caller]:
        for function in self._assembly.of_kind("AWS::Lambda::Function"):
            group = self._assembly.follow(function, "LoggingConfig.LogGroup")
            name = self._arns.name(group) if group else f"/aws/lambda/{self._arns.name(function)}"
            names = {"log_stream": [self._stream(name)], "log_group": [self._group(name)]}
            images = [one for one in self._images() if self._assembly.follow(one, "ServiceToken") == function]
            emptied = [
                one
                for one in self._assembly.of_kind("Custom::S3AutoDeleteObjects")
                if self._assembly.follow(one, "ServiceToken") == function
            ]
            if images:
                names |= self._started(images)
                yield self._caller("image_build_handler", function, "Role", names)
            elif emptied:
                buckets = [
                    f"arn:aws:s3:::{self._arns.text(one.template, one.get('BucketName'))}" for one in emptied
                ]
                names |= {"bucket": buckets, "object": [f"{bucket}/object" for bucket in buckets]}
                yield self._caller("bucket_emptier", function, "Role", names)
            elif stopped := self._stopped(function):
                names |= {"engine_service": stopped, "scalable_target": [_TARGET], "ecs_namespace": ["ecs"]}
                yield self._caller("stop_engines", function, "Role", names)
            elif unprotects := self._unprotected(function):
                names |= {"instance_group": unprotects}
                yield self._caller("unprotect", function, "Role", names)

    def _stopped(self, function: Resource) -> list[str]:
        variables = function.get("Environment.Variables", {})
        services = self._assembly.targets(function.template, variables)
        return [self._arns.arn(one) for one in services if one.kind == "AWS::ECS::Service"]

    def _unprotected(self, function: Resource) -> list[str]:
        return [
            self._arns.arn(group)
            for one in self._assembly.of_kind("Custom::Unprotected")
            if self._assembly.follow(one, "ServiceToken") == function
            and (group := self._assembly.follow(one, "AutoScalingGroupName"))
        ]

    def _started(self, images: list[Resource]) -> dict[str, list[str]]:
        projects = [found for one in images if (found := self._assembly.follow(one, "Project"))]
        groups = [
            self._arns.text(project.template, group)
            for project in projects
            if (group := project.get("LogsConfig.CloudWatchLogs.GroupName"))
        ]
        return {
            "project": [self._arns.arn(project) for project in projects],
            "repository": self._repositories(images),
            "build_log_stream": [self._stream(group) for group in groups],
        }

    def flow_logs(self) -> Iterator[Caller]:
        for log in self._assembly.of_kind("AWS::EC2::FlowLog"):
            if log.get("DeliverLogsPermissionArn"):
                name = self._arns.text(log.template, log.get("LogGroupName"))
                names = {"log_stream": [self._stream(name)], "log_group": [self._group(name)]}
                yield self._caller("flow_log", log, "DeliverLogsPermissionArn", names)

    def services(self) -> Iterator[Caller]:
        for balancer in self._assembly.of_kind("AWS::ElasticLoadBalancingV2::LoadBalancer"):
            attributes = {one["Key"]: one["Value"] for one in balancer.get("LoadBalancerAttributes", [])}
            bucket = self._assembly.target(balancer.template, attributes.get("access_logs.s3.bucket"))
            if bucket:
                prefix = f"{self._arns.arn(bucket)}/AWSLogs/"
                names = {"log_object": [f"{prefix}{ACCOUNT}/elasticloadbalancing/x"]}
                names["another_prefix"] = [f"{prefix}999999999999/x"]
                yield Caller("load_balancer_logs", bucket, None, {**_NAMES_OF_OTHERS, **names})
        for rule in self._assembly.of_kind("AWS::Events::Rule"):
            for function in self._assembly.targets(rule.template, rule.get("Targets")):
                if function.kind == "AWS::Lambda::Function":
                    names = {"function": [self._arns.arn(function)], "event_rule": [self._arns.arn(rule)]}
                    yield Caller("build_events", function, None, {**_NAMES_OF_OTHERS, **names})
                elif function.kind == "AWS::SNS::Topic":
                    names = {"topic": [self._arns.arn(function)], "event_rule": [self._arns.arn(rule)]}
                    yield Caller("capacity_events", function, None, {**_NAMES_OF_OTHERS, **names})
        for channel in self._assembly.of_kind("AWS::Chatbot::SlackChannelConfiguration"):
            yield self._caller("slack", channel, "IamRoleArn", {})
        for alarm in self._assembly.of_kind("AWS::CloudWatch::Alarm"):
            for function in self._assembly.targets(alarm.template, alarm.get("AlarmActions")):
                if function.kind == "AWS::Lambda::Function":
                    names = {"function": [self._arns.arn(function)], "alarm": [self._arns.arn(alarm)]}
                    yield Caller("alarm_function", function, None, {**_NAMES_OF_OTHERS, **names})
            for topic in self._assembly.targets(alarm.template, alarm.get("AlarmActions")):
                if topic.kind != "AWS::SNS::Topic":
                    continue
                names = {"topic": [self._arns.arn(topic)], "alarm": [self._arns.arn(alarm)]}
                yield Caller("alarms", topic, None, {**_NAMES_OF_OTHERS, **names})

    def _caller(self, kind: str, user: Resource, path: str, names: Names) -> Caller:
        return Caller(kind, user, self._assembly.follow(user, path), {**_NAMES_OF_OTHERS, **names})

    def _images(self) -> list[Resource]:
        """What is built in the account."""
        kinds = ("Custom::ContainerImage", "Custom::ModelMirror")
        return [one for kind in kinds for one in self._assembly.of_kind(kind)]

    def _repositories(self, images: list[Resource]) -> list[str]:
        found = [self._assembly.follow(one, "Repository") for one in images]
        return [self._arns.arn(repository) for repository in found if repository]

    def _all(self, kind: str) -> list[str]:
        return [self._arns.arn(one) for one in self._assembly.of_kind(kind)]

    def _group(self, name: str) -> str:
        """A log group as AWS names it for actions on groups: policies end it with `:*`."""
        return f"arn:aws:logs:{_HERE}:log-group:{name}:log-stream:"

    def _stream(self, name: str) -> str:
        return f"{self._group(name)}stream/1"


def _object_of(place: str) -> str:
    """An object below a place such as s3://bucket/prefix."""
    return f"arn:aws:s3:::{place.removeprefix('s3://')}/x"


def _without(some: Sequence[str], others: Sequence[str]) -> list[str]:
    return [one for one in some if one not in others]


def _name(repository: str) -> str:
    """The name of a repository, of which an image has its tag or digest too."""
    return repository.partition("@")[0].partition(":")[0]
