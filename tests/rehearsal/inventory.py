"""All that there is in the emulator, by name, as the AWS API describes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .emulator import Emulator

_BOOTSTRAP = ("cdk-hnb659fds", "CDKToolkit", "StagingBucket", "/cdk-bootstrap/")
# What goes on by itself, or is only when something was asked.
_PASSING = {
    "events", "deployments", "runningTasksCount", "pendingTasksCount", "updatedAt", "createdAt",
    "pendingCount", "runningCount", "desiredCount", "ResponseMetadata", "lastRecordedPullTime",
    "LastAccessedDate",
}  # fmt: skip


def inventory(emulator: Emulator) -> dict[str, Any]:
    """What there is now: a description for each name, without what changes by itself."""
    return {name: _settled(described) for name, described in _everything(emulator)}


def leftovers(emulator: Emulator) -> list[str]:
    """Names of what is there and does not belong to the bootstrap or to every account."""
    return sorted(name for name, _ in _everything(emulator) if not any(mark in name for mark in _BOOTSTRAP))


def _settled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _settled(item) for key, item in value.items() if key not in _PASSING}
    return [_settled(item) for item in value] if isinstance(value, list) else value


def _everything(emulator: Emulator) -> Iterator[tuple[str, Any]]:
    yield from _compute(emulator)
    yield from _network(emulator)
    yield from _kept(emulator)


def _compute(emulator: Emulator) -> Iterator[tuple[str, Any]]:
    ecs = emulator.ecs
    clusters = ecs.list_clusters()["clusterArns"]
    for cluster in ecs.describe_clusters(clusters=clusters)["clusters"] if clusters else []:
        yield f"cluster {cluster['clusterName']}", cluster
        arns = ecs.list_services(cluster=cluster["clusterArn"])["serviceArns"]
        for service in (
            ecs.describe_services(cluster=cluster["clusterArn"], services=arns)["services"] if arns else []
        ):
            tier = _tier(service["serviceName"])
            yield f"service {tier}", service
            arn = service["taskDefinition"]
            yield (
                f"task definition {tier}",
                ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"],
            )
    for provider in ecs.describe_capacity_providers()["capacityProviders"]:
        if not provider["name"].startswith("FARGATE"):
            yield f"capacity provider {provider['name']}", provider
    scaling = emulator.client("application-autoscaling")
    for target in scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]:
        yield "scalable target", target
    for policy in scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"]:
        yield f"scaling policy {policy['PolicyName']}", policy
    for group in emulator.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]:
        yield f"instances {group['AutoScalingGroupName']}", group
    for function in emulator.client("lambda").list_functions()["Functions"]:
        yield f"function {function['FunctionName']}", function
    for project in emulator.client("codebuild").list_projects()["projects"]:
        yield f"build project {project}", project


def _tier(service: str) -> str:
    """Engine or Orchestrator; engines of a second model have the name of its entry as well."""
    found = re.search(r"Engine(\w*?)Service", service)
    return f"Engine {found[1]}".strip() if found else "Orchestrator"


def _network(emulator: Emulator) -> Iterator[tuple[str, Any]]:
    ec2, elb = emulator.client("ec2"), emulator.client("elbv2")
    for acl in emulator.client("wafv2").list_web_acls(Scope="REGIONAL")["WebACLs"]:
        yield f"web ACL {acl['Name']}", acl
    for vpc in ec2.describe_vpcs()["Vpcs"]:
        if not vpc["IsDefault"]:
            yield f"VPC {vpc['VpcId']}", vpc
            mine = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
            for subnet in ec2.describe_subnets(Filters=mine)["Subnets"]:
                yield f"subnet {subnet['SubnetId']}", subnet
            for group in ec2.describe_security_groups(Filters=mine)["SecurityGroups"]:
                yield f"security group {group['GroupId']}", group
    for gateway in ec2.describe_nat_gateways()["NatGateways"]:
        yield f"NAT gateway {gateway['NatGatewayId']}", gateway
    for address in ec2.describe_addresses()["Addresses"]:
        yield f"address {address['AllocationId']}", address
    for template in ec2.describe_launch_templates()["LaunchTemplates"]:
        yield f"launch template {template['LaunchTemplateId']}", template
    for balancer in elb.describe_load_balancers()["LoadBalancers"]:
        yield f"load balancer {balancer['LoadBalancerName']}", balancer
        for listener in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]:
            yield f"listener {listener['Port']}", listener
    for group in elb.describe_target_groups()["TargetGroups"]:
        yield f"target group {group['TargetGroupName']}", group
    for namespace in emulator.client("servicediscovery").list_namespaces()["Namespaces"]:
        yield f"namespace {namespace['Name']}", namespace


def _kept(emulator: Emulator) -> Iterator[tuple[str, Any]]:
    ecr = emulator.client("ecr")
    for repository in ecr.describe_repositories()["repositories"]:
        name = repository["repositoryName"]
        yield f"repository {name}", repository
        for image in ecr.describe_images(repositoryName=name)["imageDetails"]:
            yield f"image {name}", image["imageTags"]
    for secret in emulator.client("secretsmanager").list_secrets()["SecretList"]:
        yield f"secret {secret['Name']}", secret
    for parameter in emulator.client("ssm").describe_parameters()["Parameters"]:
        if not parameter["Name"].startswith("/aws/"):
            yield f"parameter {parameter['Name']}", parameter
    for group in emulator.client("logs").describe_log_groups()["logGroups"]:
        yield f"log group {group['logGroupName']}", group["arn"]
    for alarm in emulator.client("cloudwatch").describe_alarms()["MetricAlarms"]:
        yield f"alarm {alarm['AlarmName']}", alarm.get("MetricName", "metric math")
    for role in emulator.client("iam").list_roles()["Roles"]:
        if role["Path"].startswith("/aws-service-role/"):
            continue  # of the account, not of the deployment
        yield f"role {role['RoleName']}", role["Arn"]
    for rule in emulator.client("events").list_rules()["Rules"]:
        yield f"rule {rule['Name']}", rule
    for bucket in emulator.client("s3").list_buckets()["Buckets"]:
        yield f"bucket {bucket['Name']}", bucket["Name"]
    formation = emulator.client("cloudformation")
    for stack in formation.describe_stacks()["Stacks"]:
        if stack["StackStatus"] != "DELETE_COMPLETE":
            yield f"stack {stack['StackName']}", stack["StackId"]
