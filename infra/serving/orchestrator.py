"""The orchestrator tier: a Fargate service that scales on its CPU."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.deployment.environment import (
    ENGINE_PORT,
    ORCHESTRATOR_PORT,
    STATUS_PORT,
    orchestrator_environment,
)
from infra.deployment.file import Deployment
from infra.deployment.plan import Plan
from infra.deployment.tool_settings import Tools
from infra.foundation.network import private_subnets
from infra.foundation.secrets import Keys
from infra.images.recipes import Architecture, Image
from infra.suppressions import accept

from .engine import Engine
from .scaling import scale_on_cpu
from .task_definition import accept_design, container_logs, existing_secret
from .traces import add_collector

HEALTH_CHECK_PATH = "/v1/models"
POSTGRESQL_PORT = 5432

_TABLE_ACTIONS = (
    "dynamodb:BatchWriteItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem",
    "dynamodb:Query", "dynamodb:UpdateItem",
)  # fmt: skip


class Orchestrator(Construct):
    """The tasks behind the load balancer."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        cluster: ecs.Cluster,
        image: Image,
        plan: Plan,
        engines: Sequence[Engine],
        keys: Keys,
        usage: dynamodb.ITable,
    ) -> None:
        super().__init__(scope, construct_id)
        deployment = plan.deployment
        security_group = self._security_group(cluster.vpc, deployment)
        self.logs = container_logs(self, deployment)
        task = self._task_definition(plan, image, keys, usage)
        self.service = self._service(cluster, task, security_group)
        for engine in engines:
            engine.connections.allow_from(security_group, ec2.Port.tcp(ENGINE_PORT), "Orchestrator to engine")
            engine.connections.allow_from(
                security_group, ec2.Port.tcp(STATUS_PORT), "State of the engine's start"
            )
        scale_on_cpu(self.service, settings=deployment.orchestrator)

    def _security_group(self, vpc: ec2.IVpc, deployment: Deployment) -> ec2.SecurityGroup:
        group = ec2.SecurityGroup(
            self,
            "SecurityGroup",
            vpc=vpc,
            description="Orchestrator: the load balancer comes in, HTTPS and the engine go out",
            allow_all_outbound=False,
        )
        group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS and the APIs that tools call")
        if deployment.tools.database_url_secret_arn:
            group.add_egress_rule(
                ec2.Peer.any_ipv4(), ec2.Port.tcp(POSTGRESQL_PORT), "Database of query_database"
            )
        for one in deployment.tools.egress:
            peer = (
                ec2.Peer.ipv4(one.cidr) if one.cidr else ec2.Peer.security_group_id(one.security_group or "")
            )
            group.add_egress_rule(peer, ec2.Port.tcp(one.port), "Tools: tools.egress")
        scraper = deployment.metrics.scraper_security_group
        if scraper:
            group.add_ingress_rule(
                ec2.Peer.security_group_id(scraper),
                ec2.Port.tcp(ORCHESTRATOR_PORT),
                "Prometheus reads /metrics",
            )
        return group

    def _task_definition(
        self,
        plan: Plan,
        image: Image,
        keys: Keys,
        usage: dynamodb.ITable,
    ) -> ecs.FargateTaskDefinition:
        deployment = plan.deployment
        settings = deployment.orchestrator
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            cpu=settings.cpu,
            memory_limit_mib=settings.memory_mib,
            runtime_platform=_platform(settings.architecture),
        )
        image.before(task)
        task.add_to_task_role_policy(
            iam.PolicyStatement(
                actions=["secretsmanager:GetSecretValue"], resources=[keys.api_keys.secret_arn]
            )
        )
        task.add_to_task_role_policy(
            iam.PolicyStatement(actions=list(_TABLE_ACTIONS), resources=[usage.table_arn])
        )
        self._let_tools(task, deployment.tools)
        task.add_container(
            "orchestrator",
            image=image.source,
            environment=orchestrator_environment(
                plan,
                api_keys_secret_arn=keys.api_keys.secret_arn,
                limits_table=usage.table_name,
            ),
            secrets=self._secrets(deployment, keys),
            port_mappings=[ecs.PortMapping(container_port=ORCHESTRATOR_PORT)],
            readonly_root_filesystem=True,
            stop_timeout=cdk.Duration.seconds(settings.stop_timeout_seconds),
            logging=ecs.LogDrivers.aws_logs(stream_prefix="orchestrator", log_group=self.logs),
        )
        if settings.traces and settings.traces.sidecar:
            add_collector(task, self.logs)
        accept_design(task)
        return task

    def _let_tools(self, task: ecs.FargateTaskDefinition, tools: Tools) -> None:
        """Gives the task role what the tools need in the account."""
        for number, arn in enumerate(tools.policy_arns, 1):
            task.task_role.add_managed_policy(
                iam.ManagedPolicy.from_managed_policy_arn(self, f"ToolsPolicy{number}", arn)
            )
        for statement in tools.statements:
            task.add_to_task_role_policy(
                iam.PolicyStatement(actions=list(statement.actions), resources=list(statement.resources))
            )
            wide = [f"AwsSolutions-IAM5[Resource::{one}]" for one in statement.resources if "*" in one]
            accept(task.task_role, *wide, reason="The deployment file declares it: tools.statements.")

    def _secrets(self, deployment: Deployment, keys: Keys) -> dict[str, ecs.Secret]:
        secrets = {
            "BOOTSTRAP_API_KEY": ecs.Secret.from_secrets_manager(keys.bootstrap),
            "VLLM_API_KEY": ecs.Secret.from_secrets_manager(keys.engine),
        }
        url = deployment.tools.database_url_secret_arn
        if url:
            secrets["DATABASE_URL"] = existing_secret(self, "DatabaseUrl", url)
        traces = deployment.orchestrator.traces
        if traces and traces.headers_secret_arn:
            headers = existing_secret(self, "TraceHeaders", traces.headers_secret_arn)
            secrets["OTEL_EXPORTER_OTLP_HEADERS"] = headers
        for name, given in deployment.tools.all_secrets.items():
            secrets[name] = existing_secret(self, f"ToolSecret{name}", given.arn, given.json_key)
        return secrets

    def _service(
        self,
        cluster: ecs.Cluster,
        task: ecs.FargateTaskDefinition,
        security_group: ec2.SecurityGroup,
    ) -> ecs.FargateService:
        service = ecs.FargateService(
            self,
            "Service",
            cluster=cluster,
            task_definition=task,
            min_healthy_percent=100,
            max_healthy_percent=200,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            health_check_grace_period=cdk.Duration.seconds(60),
            security_groups=[security_group],
            vpc_subnets=ec2.SubnetSelection(subnets=private_subnets(cluster.vpc)),
            availability_zone_rebalancing=ecs.AvailabilityZoneRebalancing.ENABLED,
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
        )
        # Tasks that start before their role can read the secrets would count as failed.
        service.node.add_dependency(task.obtain_execution_role())
        return service


def _platform(architecture: Architecture) -> ecs.RuntimePlatform:
    arm = architecture == "arm64"
    return ecs.RuntimePlatform(
        cpu_architecture=ecs.CpuArchitecture.ARM64 if arm else ecs.CpuArchitecture.X86_64,
        operating_system_family=ecs.OperatingSystemFamily.LINUX,
    )
