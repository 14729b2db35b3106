"""Faults seeded into synthesized templates: small changes that would fail, or run badly, in an account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Templates = dict[str, dict[str, Any]]
Change = Callable[[Templates], None]
Step = str | int


ALARM = "AWS::CloudWatch::Alarm"
ASG, LAUNCH = "AWS::AutoScaling::AutoScalingGroup", "AWS::EC2::LaunchTemplate"
WARM_POOL = "AWS::AutoScaling::WarmPool"
SERVICE, TASK, PROVIDER = "AWS::ECS::Service", "AWS::ECS::TaskDefinition", "AWS::ECS::CapacityProvider"
ASSOCIATION = "AWS::ECS::ClusterCapacityProviderAssociations"
BALANCER = "AWS::ElasticLoadBalancingV2::LoadBalancer"
LISTENER, LISTENER_RULE = "AWS::ElasticLoadBalancingV2::Listener", "AWS::ElasticLoadBalancingV2::ListenerRule"
TARGETS = "AWS::ElasticLoadBalancingV2::TargetGroup"
INGRESS_RULE, EGRESS_RULE = "AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress"
GROUP, VPC, ROUTE = "AWS::EC2::SecurityGroup", "AWS::EC2::VPC", "AWS::EC2::Route"
IMAGE, PROJECT = "Custom::ContainerImage", "AWS::CodeBuild::Project"
SCALABLE, POLICY = "AWS::ApplicationAutoScaling::ScalableTarget", "AWS::ApplicationAutoScaling::ScalingPolicy"
REPOSITORY, SECRET = "AWS::ECR::Repository", "AWS::SecretsManager::Secret"
BOX: tuple[Step, ...] = ("ContainerDefinitions", 0)
DEPLOYMENT = "DeploymentConfiguration"
DATA = "LaunchTemplateData"
OLD_AMI = "resolve:ssm:/aws/service/ecs/optimized-ami/amazon-linux-2/gpu/recommended/image_id"


@dataclass(frozen=True)
class Mutation:
    """A fault, the rule that must find it, and the variant that it is seeded into."""

    name: str
    rule: str
    change: Change
    variant: str = "default"


def resources(templates: Templates, kind: str, part: str = "") -> list[dict[str, Any]]:
    """The resources of a type, whose logical id contains a part; at least one."""
    found = [
        body
        for template in templates.values()
        for logical_id, body in template["Resources"].items()
        if body["Type"] == kind and part in logical_id
    ]
    assert found, f"no {kind} with {part} in its name"
    return found


def put(kind: str, path: tuple[Step, ...], value: Any, part: str = "") -> Change:
    """Sets a property of every such resource, which must have another value before."""

    def change(templates: Templates) -> None:
        for body in resources(templates, kind, part):
            target = body.setdefault("Properties", {})
            for step in path[:-1]:
                target = target[step]
            assert isinstance(target, list) or target.get(path[-1]) != value
            target[path[-1]] = value

    return change


def drop(kind: str, path: tuple[Step, ...], part: str = "") -> Change:
    """Takes a property away from every such resource; `()` takes the resource."""

    def change(templates: Templates) -> None:
        if not path:
            doomed = resources(templates, kind, part)
            for template in templates.values():
                template["Resources"] = {k: v for k, v in template["Resources"].items() if v not in doomed}
            return
        for body in resources(templates, kind, part):
            target = body["Properties"]
            for step in path[:-1]:
                target = target[step]
            del target[path[-1]]

    return change


def without_dependency(part: str, on: str) -> Change:
    """Takes dependencies on one resource away from another."""

    def change(templates: Templates) -> None:
        body = next(
            b for t in templates.values() for i, b in t["Resources"].items() if part in i and "DependsOn" in b
        )
        kept = [name for name in body["DependsOn"] if not name.startswith(on)]
        assert kept != body["DependsOn"]
        body["DependsOn"] = kept

    return change


def attribute(kind: str, path: str, key: str, value: str) -> Change:
    """Sets an attribute of a load balancer or target group."""

    def change(templates: Templates) -> None:
        for body in resources(templates, kind):
            entry = next(one for one in body["Properties"][path] if one["Key"] == key)
            assert entry["Value"] != value
            entry["Value"] = value

    return change


def variable(part: str, name: str, value: str | None) -> Change:
    """Sets a variable of a task's environment; None takes it away."""

    def change(templates: Templates) -> None:
        container = resources(templates, TASK, part)[0]["Properties"]["ContainerDefinitions"][0]
        others = [entry for entry in container["Environment"] if entry["Name"] != name]
        container["Environment"] = others + ([{"Name": name, "Value": value}] if value is not None else [])

    return change


def without_action(part: str, action: str) -> Change:
    """Takes an allowed action away from policies."""

    def change(templates: Templates) -> None:
        hit = False
        for statement in _statements(templates, part):
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            if action in actions:
                statement["Action"] = [one for one in actions if one != action] or ["ec2:DescribeRegions"]
                hit = True
        assert hit

    return change


def with_action(part: str, action: str) -> Change:
    """Allows another action on the same resources."""

    def change(templates: Templates) -> None:
        statement = next(_statements(templates, part))
        statement["Action"] = [action]

    return change


def in_statement(part: str, action: str, **elements: Any) -> Change:
    """Replaces elements of the statements that are about an action; None takes an element away."""

    def change(templates: Templates) -> None:
        hit = False
        for statement in _statements(templates, part):
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            if action in actions:
                hit = True
                statement.update(elements)
                for name in [name for name, value in elements.items() if value is None]:
                    del statement[name]
        assert hit

    return change


def with_statement(part: str, statement: dict[str, Any]) -> Change:
    """Adds a statement to policies."""

    def change(templates: Templates) -> None:
        for body in resources(templates, "AWS::IAM::Policy", part):
            body["Properties"]["PolicyDocument"]["Statement"].append(statement)

    return change


def with_resource(logical_id: str, kind: str, properties: dict[str, Any]) -> Change:
    """Adds a resource to the serving stack."""

    def change(templates: Templates) -> None:
        templates["serving"]["Resources"][logical_id] = {"Type": kind, "Properties": properties}

    return change


def in_user_data(before: str, after: str) -> Change:
    """Changes the script that the instances start with."""

    def change(templates: Templates) -> None:
        script = resources(templates, LAUNCH)[0]["Properties"]["LaunchTemplateData"]["UserData"]
        parts = script["Fn::Base64"]["Fn::Join"][1]
        assert before in parts[0]
        parts[0] = parts[0].replace(before, after)

    return change


def update_policy(name: str | None, value: Any) -> Change:
    """Sets a property of the rolling update of Auto Scaling groups; None removes the update policy."""

    def change(templates: Templates) -> None:
        for body in resources(templates, ASG):
            if name is None:
                del body["UpdatePolicy"]
            else:
                assert body["UpdatePolicy"]["AutoScalingRollingUpdate"].get(name) != value
                body["UpdatePolicy"]["AutoScalingRollingUpdate"][name] = value

    return change


def clear_http(templates: Templates) -> None:
    """Answers on port 80 instead of redirecting."""
    for body in resources(templates, LISTENER):
        if body["Properties"]["Port"] == 80:
            body["Properties"]["DefaultActions"][0]["Type"] = "fixed-response"


def redirected_http(templates: Templates) -> None:
    """Opens port 80 with a redirect."""
    https = resources(templates, LISTENER)[0]["Properties"]
    redirect = {"Type": "redirect", "RedirectConfig": {"Protocol": "HTTPS", "StatusCode": "HTTP_301"}}
    plain = {**https, "Port": 80, "Protocol": "HTTP", "DefaultActions": [redirect]}
    templates["serving"]["Resources"]["PlainListener"] = {"Type": LISTENER, "Properties": plain}


def _statements(templates: Templates, part: str) -> Iterator[dict[str, Any]]:
    for body in resources(templates, "AWS::IAM::Policy", part):
        yield from body["Properties"]["PolicyDocument"]["Statement"]
