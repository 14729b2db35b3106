"""Checks through the AWS API what a deployment has created. Each function returns what it found."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .emulator import Emulator

API_PORT = 8001
ENGINE_PORT = 8000
STATUS_PORT = 8002


class Deployed:
    """What AWS says of the deployment, asked once."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        ecs, elb = emulator.ecs, emulator.client("elbv2")
        self.cluster: Any = ecs.describe_clusters(clusters=ecs.list_clusters()["clusterArns"])["clusters"][0]
        arns = ecs.list_services(cluster=self.cluster["clusterArn"])["serviceArns"]
        services: list[Any] = ecs.describe_services(cluster=self.cluster["clusterArn"], services=arns)[
            "services"
        ]
        self.engine = next(one for one in services if "EngineService" in one["serviceName"])
        self.orchestrator = next(one for one in services if "OrchestratorService" in one["serviceName"])
        self.load_balancer = elb.describe_load_balancers()["LoadBalancers"][0]
        arn = self.load_balancer["LoadBalancerArn"]
        self.listeners = {
            one["Port"]: one for one in elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]
        }
        self.target_group = elb.describe_target_groups()["TargetGroups"][0]
        groups = emulator.client("ec2").describe_security_groups()["SecurityGroups"]
        self.security_groups = {one["GroupId"]: one for one in groups}

    def task(self, service: Any) -> Any:
        arn = service["taskDefinition"]
        return self.emulator.ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]

    def container(self, service: Any) -> Any:
        (container,) = self.task(service)["containerDefinitions"]
        return container

    def group_of(self, service: Any) -> str:
        (group,) = service["networkConfiguration"]["awsvpcConfiguration"]["securityGroups"]
        return str(group)


def same(found: object, expected: object, what: str) -> None:
    """Raises AssertionError, naming both, where they differ."""
    assert found == expected, f"{what}: found {found!r}, expected {expected!r}"


def cluster_has_its_capacity(aws: Deployed) -> str:
    (provider,) = aws.cluster["capacityProviders"]
    described = aws.emulator.ecs.describe_capacity_providers(capacityProviders=[provider])[
        "capacityProviders"
    ][0]
    group = described["autoScalingGroupProvider"]
    same(group["managedTerminationProtection"], "DISABLED", "managed termination protection")
    same(group["managedScaling"]["status"], "ENABLED", "managed scaling")
    groups = aws.emulator.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    names = [name for one in groups for name in (one["AutoScalingGroupName"], one["AutoScalingGroupARN"])]
    assert group["autoScalingGroupArn"] in names, f"no such group: {group['autoScalingGroupArn']}"
    same(aws.engine["capacityProviderStrategy"], [{"capacityProvider": provider, "weight": 1}], "strategy")
    same((groups[0]["MinSize"], groups[0]["MaxSize"]), (0, 1), "instances of the GPU group")
    same(len(set(groups[0]["VPCZoneIdentifier"].split(","))), 2, "zones of the GPU group")
    return f"the engine runs on {provider}, which starts at no instance, over two subnets"


def instances_are_safe(aws: Deployed) -> str:
    ec2 = aws.emulator.client("ec2")
    template = ec2.describe_launch_templates()["LaunchTemplates"][0]["LaunchTemplateId"]
    (version,) = ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"]
    data = version["LaunchTemplateData"]
    same(data["InstanceType"], "g5.xlarge", "instance type")
    same(data["MetadataOptions"]["HttpTokens"], "required", "IMDSv2")
    (root,) = data["BlockDeviceMappings"]
    same((root["DeviceName"], root["Ebs"]["VolumeType"]), ("/dev/xvda", "gp3"), "root volume")
    same(root["Ebs"]["Encrypted"], True, "encryption of the root volume")
    assert root["Ebs"]["VolumeSize"] >= 100, f"root volume of {root['Ebs']['VolumeSize']} GiB"
    assert "amazon-linux-2023/gpu/recommended" in data["ImageId"], f"AMI {data['ImageId']}"
    return f"g5.xlarge with IMDSv2 and an encrypted root volume of {root['Ebs']['VolumeSize']} GiB"


def engine_task_can_be_placed(aws: Deployed) -> str:
    task, container = aws.task(aws.engine), aws.container(aws.engine)
    same(task["networkMode"], "awsvpc", "network mode of the engine")
    same(container["resourceRequirements"], [{"value": "1", "type": "GPU"}], "GPUs of the engine")
    whole = container["memory"] + container["linuxParameters"]["sharedMemorySize"]
    assert whole <= 15_500, f"memory and shm of {whole} MiB do not fit what a g5.xlarge registers"
    check = container["healthCheck"]
    seconds = check["startPeriod"] + check["retries"] * check["interval"]
    assert seconds >= 600, f"a model has {seconds} s to load"
    assert "/health" in check["command"][-1], f"health check {check['command']}"
    same(container["portMappings"][0]["containerPort"], ENGINE_PORT, "port of the engine")
    return f"{container['memory']} MiB, one GPU, {seconds} s to load"


def engine_rolls_out_on_one_gpu(aws: Deployed) -> str:
    deployment = aws.engine["deploymentConfiguration"]
    same(
        (deployment["minimumHealthyPercent"], deployment["maximumPercent"]), (0, 100), "percent of the engine"
    )
    same(deployment["deploymentCircuitBreaker"], {"enable": True, "rollback": True}, "circuit breaker")
    (registry,) = aws.engine["serviceRegistries"]
    cloud_map = aws.emulator.client("servicediscovery")
    service = cloud_map.get_service(Id=registry["registryArn"].rpartition("/")[2])["Service"]
    same([one["Type"] for one in service["DnsConfig"]["DnsRecords"]], ["A"], "record of the engine")
    return "0 and 100 percent, circuit breaker, an A record in Cloud Map"


def orchestrator_is_behind_the_load_balancer(aws: Deployed) -> str:
    same(aws.orchestrator["launchType"], "FARGATE", "launch type")
    (target,) = aws.orchestrator["loadBalancers"]
    same(target["containerPort"], API_PORT, "port behind the load balancer")
    same(target["targetGroupArn"], aws.target_group["TargetGroupArn"], "target group")
    same(aws.target_group["TargetType"], "ip", "target type")
    same(
        (aws.target_group["Port"], aws.target_group["HealthCheckPath"]),
        (API_PORT, "/v1/models"),
        "target group",
    )
    assert aws.orchestrator["healthCheckGracePeriodSeconds"] >= 30, "grace period"
    same(
        aws.orchestrator["deploymentConfiguration"]["deploymentCircuitBreaker"]["rollback"], True, "rollback"
    )
    return "Fargate, port 8001, health check /v1/models"


def orchestrators_scale_on_cpu(aws: Deployed) -> str:
    scaling = aws.emulator.client("application-autoscaling")
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    same((target["MinCapacity"], target["MaxCapacity"]), (3, 10), "tasks")
    assert target["ResourceId"].endswith(aws.orchestrator["serviceName"]), target["ResourceId"]
    (policy,) = scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"]
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]
    metric = tracking["PredefinedMetricSpecification"]["PredefinedMetricType"]
    same(metric, "ECSServiceAverageCPUUtilization", "metric")
    return f"3 to 10 tasks at {tracking['TargetValue']:g}% CPU"


def only_https_comes_in(aws: Deployed) -> str:
    same(sorted(aws.listeners), [443], "listeners")
    https = aws.listeners[443]
    assert "TLS13-1-2" in https["SslPolicy"], https["SslPolicy"]
    same(len(https["Certificates"]), 1, "certificates")
    same(https["DefaultActions"][0]["Type"], "fixed-response", "what other paths get")
    elb = aws.emulator.client("elbv2")
    arn = aws.load_balancer["LoadBalancerArn"]
    attributes = {
        one["Key"]: one["Value"]
        for one in elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
    }
    assert int(attributes["idle_timeout.timeout_seconds"]) >= 900, attributes
    same(attributes["routing.http.drop_invalid_header_fields.enabled"], "true", "invalid headers dropped")
    idle = attributes["idle_timeout.timeout_seconds"]
    return f"443 with {https['SslPolicy']}, 80 is closed, idle timeout {idle} s"


def nobody_else_reaches_the_tiers(aws: Deployed) -> str:
    engine, orchestrator = aws.group_of(aws.engine), aws.group_of(aws.orchestrator)
    (balancer,) = aws.load_balancer["SecurityGroups"]
    reach = {(ENGINE_PORT, orchestrator), (STATUS_PORT, orchestrator)}
    same(_sources(aws, engine), reach, "who reaches the engine")
    same(_sources(aws, orchestrator), {(API_PORT, balancer)}, "who reaches the orchestrator")
    return "8000 and 8002 from the orchestrator only, 8001 from the load balancer only"


def _sources(aws: Deployed, group: str) -> set[tuple[int, str]]:
    rules = aws.security_groups[group]["IpPermissions"]
    ranges = {(rule["FromPort"], one["CidrIp"]) for rule in rules for one in rule["IpRanges"]}
    return ranges | {
        (rule["FromPort"], pair["GroupId"]) for rule in rules for pair in rule["UserIdGroupPairs"]
    }


def tiers_stand_in_private_subnets(aws: Deployed) -> str:
    ec2 = aws.emulator.client("ec2")
    (gateway,) = ec2.describe_nat_gateways()["NatGateways"]
    tables = ec2.describe_route_tables()["RouteTables"]
    behind = {
        association.get("SubnetId")
        for table in tables
        for association in table["Associations"]
        if any(route.get("NatGatewayId") == gateway["NatGatewayId"] for route in table["Routes"])
    }
    for service in (aws.engine, aws.orchestrator):
        network = service["networkConfiguration"]["awsvpcConfiguration"]
        same(network["assignPublicIp"], "DISABLED", "public address")
        assert set(network["subnets"]) <= behind, f"{service['serviceName']} has no way out through the NAT"
    assert gateway["SubnetId"] not in behind, "the NAT gateway stands behind itself"
    return "behind one NAT gateway, without public addresses"


def secrets_are_injected(aws: Deployed) -> str:
    secrets = aws.emulator.client("secretsmanager").list_secrets()["SecretList"]
    arns = {one["ARN"]: one["Name"] for one in secrets}
    injected = {}
    for service in (aws.engine, aws.orchestrator):
        container = aws.container(service)
        for secret in container["secrets"]:
            assert secret["valueFrom"] in arns, f"no secret {secret['valueFrom']}"
            injected[container["name"], secret["name"]] = secret["valueFrom"]
    same(injected["vllm", "VLLM_API_KEY"], injected["orchestrator", "VLLM_API_KEY"], "the engine's key")
    environment = {entry["name"]: entry["value"] for entry in aws.container(aws.orchestrator)["environment"]}
    assert environment["API_KEYS_SECRET_ARN"] in arns, environment["API_KEYS_SECRET_ARN"]
    client = aws.emulator.client("secretsmanager")
    assert (
        len(client.get_secret_value(SecretId=injected["orchestrator", "BOOTSTRAP_API_KEY"])["SecretString"])
        >= 32
    )
    same(
        client.get_secret_value(SecretId=environment["API_KEYS_SECRET_ARN"])["SecretString"],
        "{}",
        "named keys",
    )
    return "bootstrap key, named keys, and one key between the tiers"


def images_are_kept_well(aws: Deployed) -> str:
    ecr = aws.emulator.client("ecr")
    for name, service in (("tandem/vllm", aws.engine), ("tandem/orchestrator", aws.orchestrator)):
        (repository,) = ecr.describe_repositories(repositoryNames=[name])["repositories"]
        same(repository["imageTagMutability"], "IMMUTABLE", f"tags of {name}")
        same(repository["imageScanningConfiguration"]["scanOnPush"], True, f"scan of {name}")
        rules = json.loads(ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"])["rules"]
        assert rules, f"{name} has no lifecycle rules"
        image, _, tag = aws.container(service)["image"].rpartition(":")
        assert image.endswith(name), image
        pushed = {
            tag
            for one in ecr.describe_images(repositoryName=name)["imageDetails"]
            for tag in one["imageTags"]
        }
        assert tag in pushed, f"{name} has {pushed}, the task wants {tag}"
    return "immutable, scanned, with a lifecycle; the tasks' tags were built"


def logs_end_some_day(aws: Deployed) -> str:
    groups = aws.emulator.client("logs").describe_log_groups()["logGroups"]
    endless = [group["logGroupName"] for group in groups if not group.get("retentionInDays")]
    # The emulator's own for its Lambda functions, which ours replace.
    endless = [name for name in endless if not name.startswith("/aws/lambda/")]
    same(endless, [], "log groups without an end")
    names = {group["logGroupName"] for group in groups}
    for service in (aws.engine, aws.orchestrator):
        options = aws.container(service)["logConfiguration"]["options"]
        assert options["awslogs-group"] in names, f"no log group {options['awslogs-group']}"
    return f"{len(groups)} log groups, each with a retention"


def outputs_tell_how_to_begin(aws: Deployed) -> str:
    stacks = aws.emulator.client("cloudformation").describe_stacks(StackName="tandem-serving")["Stacks"]
    outputs = {one["OutputKey"]: one["OutputValue"] for one in stacks[0]["Outputs"]}
    same(outputs["Url"], "https://api.example.com/v1", "Url")
    record = f"api.example.com. CNAME {aws.load_balancer['DNSName']}."
    same(outputs["DnsRecord"], record, "the DNS record to create")
    assert outputs["Url"] in outputs["Snippet"], outputs["Snippet"]
    compile(outputs["Snippet"], "snippet", "exec")
    assert "get-secret-value" in outputs["ReadApiKey"], outputs["ReadApiKey"]
    return str(outputs["Url"])


def addresses_have_a_request_limit(deployed: Deployed) -> str:
    waf = deployed.emulator.client("wafv2")
    acl = waf.get_web_acl_for_resource(ResourceArn=deployed.load_balancer["LoadBalancerArn"])["WebACL"]
    (limit,) = acl["Rules"]
    counted = limit["Statement"]["RateBasedStatement"]
    same((counted["Limit"], counted["AggregateKeyType"]), (20_000, "IP"), "the request limit")
    same(limit["Action"]["Block"]["CustomResponse"]["ResponseCode"], 429, "the status beyond it")
    return "20,000 requests in 5 minutes per address, then a 429"


CHECKS: tuple[Callable[[Deployed], str], ...] = (
    cluster_has_its_capacity,
    instances_are_safe,
    engine_task_can_be_placed,
    engine_rolls_out_on_one_gpu,
    orchestrator_is_behind_the_load_balancer,
    orchestrators_scale_on_cpu,
    only_https_comes_in,
    addresses_have_a_request_limit,
    nobody_else_reaches_the_tiers,
    tiers_stand_in_private_subnets,
    secrets_are_injected,
    images_are_kept_well,
    logs_end_some_day,
    outputs_tell_how_to_begin,
)
