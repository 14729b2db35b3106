"""The engine tier: vLLM as an ECS service on GPU instances."""

from __future__ import annotations

import json
import shlex

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_servicediscovery as servicediscovery
from constructs import Construct

from infra.deployment.environment import ENGINE_PORT, STATUS_PORT, engine_name
from infra.deployment.file import Deployment
from infra.deployment.model_settings import Model
from infra.deployment.plan import Plan
from infra.deployment.sizing import TaskShare, health_check, rollout
from infra.foundation.network import private_subnets
from infra.images.recipes import Image
from infra.suppressions import accept

from .gpu_instances import CACHE_DIRECTORY, GpuCapacity
from .model_files import ModelFiles, let_read_adapters
from .task_definition import accept_design, container_logs, existing_secret

PORT = ENGINE_PORT
METRICS_NAMESPACE = "Tandem"
"""CloudWatch namespace of the seconds of a start."""

USER = "2000:0"
"""User and group of the image. The user data gives the cache to this user."""

SERVICE_NAME = "vllm"

CACHE_IN_CONTAINER = "/home/vllm/.cache"
"""Parent directory of HF_HOME and VLLM_CACHE_ROOT in the image."""

STOP_MARGIN_SECONDS = 30
"""Time between vLLM's last request and its end, for giving the GPU back."""

HANG_SECONDS = 30
"""Time that a loaded engine may be silent before its watchdog ends it."""

_HEALTH_COMMAND = (
    f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{PORT}/health', timeout=9)"
)


def engine_environment(deployment: Deployment, files: ModelFiles | None = None) -> dict[str, str]:
    """Returns the engine's environment without secrets. Unset variables have launch.py's defaults."""
    model, gpu = deployment.model, deployment.gpu
    environment = {
        "MODEL": model.id,
        "MODEL_REVISION": model.revision,
        "SERVED_MODEL_NAME": model.served_name,
        "PORT": str(PORT),
        "DTYPE": model.dtype,
        "QUANTIZATION": model.quantization,
        "KV_CACHE_DTYPE": None if model.kv_cache_dtype == "auto" else model.kv_cache_dtype,
        "MAX_MODEL_LEN": str(model.max_model_len),
        "GPU_MEMORY_UTILIZATION": str(model.gpu_memory_utilization),
        "MAX_NUM_SEQS": str(model.max_num_seqs),
        "MAX_NUM_QUEUED_REQS": str(model.max_num_queued_reqs),
        "TENSOR_PARALLEL_SIZE": str(gpu.gpus_per_task),
        "KIND": None if model.kind == "chat" else model.kind,
        "ADAPTERS": _adapters(model),
        "ADAPTERS_FROM": model.adapters_from,
        "MAX_LORA_RANK": str(model.max_lora_rank or ""),
        "MAX_LORAS": str(model.max_loras or ""),
        "TOOL_CALL_PARSER": model.tool_call_parser,
        "REASONING_PARSER": model.reasoning_parser,
        "CHAT_TEMPLATE": model.chat_template,
        # No request is older than its deadline, so all of them finish.
        "SHUTDOWN_TIMEOUT": str(deployment.orchestrator.request_timeout_seconds),
        "HANG_SECONDS": str(HANG_SECONDS),
        "MODEL_SOURCE": files.source if files else None,
        "CACHE_LOCATION": files.cache if files else None,
        "STATUS_PORT": str(STATUS_PORT),
        "METRICS_NAMESPACE": METRICS_NAMESPACE,
        "DEPLOYMENT_NAME": deployment.name,
        "EXTRA_ARGS": shlex.join(model.extra_args),
    }
    return {name: value for name, value in environment.items() if value}


def _adapters(model: Model) -> str:
    sources = [{"name": name, "source": source} for name, source in model.adapters.items()]
    return json.dumps(sources) if sources else ""


class Engine(Construct):
    """The engines of a model: one task each, with its own GPUs. `connections` controls access."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        cluster: ecs.Cluster,
        namespace: servicediscovery.INamespace,
        capacity: GpuCapacity,
        image: Image,
        plan: Plan,
        key: secretsmanager.ISecret,
        files: ModelFiles | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self._files = files
        deployment, share = plan.deployment, plan.share
        self.connections = self._security_group(cluster.vpc).connections
        task = self._task_definition(deployment, image, share, key)
        self.service = self._service(cluster, capacity, plan, task)
        self.service.enable_cloud_map(
            name=engine_name(plan),
            cloud_map_namespace=namespace,
            dns_record_type=servicediscovery.DnsRecordType.A,
            dns_ttl=cdk.Duration.seconds(10),
        )

    def _security_group(self, vpc: ec2.IVpc) -> ec2.SecurityGroup:
        group = ec2.SecurityGroup(
            self,
            "SecurityGroup",
            vpc=vpc,
            description="Engines: the orchestrator comes in, HTTPS goes out",
            allow_all_outbound=False,
        )
        group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "Weights from the Hugging Face Hub")
        return group

    def _task_definition(
        self,
        deployment: Deployment,
        image: Image,
        share: TaskShare,
        key: secretsmanager.ISecret,
    ) -> ecs.Ec2TaskDefinition:
        task = ecs.Ec2TaskDefinition(
            self,
            "Task",
            network_mode=ecs.NetworkMode.AWS_VPC,
            volumes=[ecs.Volume(name="cache", host=ecs.Host(source_path=CACHE_DIRECTORY))],
        )
        image.before(task)
        if self._files:
            self._files.grant(task.task_role)
            task.node.find_child("Resource").node.add_dependency(*self._files.ready)
        let_read_adapters(self, task.task_role, deployment.model)
        self._add_container(task, deployment, image, share, key)
        accept_design(task)
        return task

    def _add_container(
        self,
        task: ecs.Ec2TaskDefinition,
        deployment: Deployment,
        image: Image,
        share: TaskShare,
        key: secretsmanager.ISecret,
    ) -> None:
        linux = ecs.LinuxParameters(
            self,
            "Linux",
            init_process_enabled=True,
            shared_memory_size=share.shm_mib,
        )
        logging = ecs.LogDrivers.aws_logs(stream_prefix="engine", log_group=container_logs(self, deployment))
        check = health_check(deployment.gpu.startup_seconds)
        container = task.add_container(
            SERVICE_NAME,
            image=image.source,
            user=USER,
            gpu_count=deployment.gpu.gpus_per_task,
            cpu=share.cpu,
            memory_limit_mib=share.memory_mib,
            linux_parameters=linux,
            environment=engine_environment(deployment, self._files),
            secrets=self._secrets(deployment, key),
            port_mappings=[
                ecs.PortMapping(container_port=PORT),
                ecs.PortMapping(container_port=STATUS_PORT),
            ],
            # ECS limits this to 120 s on Fargate only.
            stop_timeout=cdk.Duration.seconds(
                deployment.orchestrator.request_timeout_seconds + STOP_MARGIN_SECONDS
            ),
            logging=logging,
            health_check=ecs.HealthCheck(
                command=["CMD", "python3", "-c", _HEALTH_COMMAND],
                start_period=cdk.Duration.seconds(check.start_period),
                interval=cdk.Duration.seconds(check.interval),
                retries=check.retries,
                timeout=cdk.Duration.seconds(10),
            ),
        )
        container.add_mount_points(
            ecs.MountPoint(source_volume="cache", container_path=CACHE_IN_CONTAINER, read_only=False)
        )

    def _secrets(self, deployment: Deployment, key: secretsmanager.ISecret) -> dict[str, ecs.Secret]:
        secrets = {"VLLM_API_KEY": ecs.Secret.from_secrets_manager(key)}
        token = deployment.model.hf_token_secret_arn
        if token:
            secrets["HF_TOKEN"] = existing_secret(self, "HfToken", token)
        return secrets

    def _service(
        self,
        cluster: ecs.Cluster,
        capacity: GpuCapacity,
        plan: Plan,
        task: ecs.Ec2TaskDefinition,
    ) -> ecs.Ec2Service:
        deployment = plan.deployment
        limits = rollout(plan.limits.least, spare=deployment.gpu.spare_instance)
        service = ecs.Ec2Service(
            self,
            "Service",
            cluster=cluster,
            task_definition=task,
            desired_count=plan.limits.most,
            min_healthy_percent=limits.minimum_healthy_percent,
            max_healthy_percent=limits.maximum_percent,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            capacity_provider_strategies=[
                ecs.CapacityProviderStrategy(capacity_provider=capacity.provider, weight=1)
            ],
            security_groups=[*self.connections.security_groups],
            vpc_subnets=ec2.SubnetSelection(subnets=private_subnets(cluster.vpc)),
            # Rebalancing would start a task before it stops one, but there is no free GPU.
            availability_zone_rebalancing=ecs.AvailabilityZoneRebalancing.DISABLED,
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
            enable_execute_command=deployment.gpu.shell or None,
        )
        if deployment.gpu.shell:
            accept(
                task.task_role,
                "AwsSolutions-IAM5[Resource::*]",
                reason="gpu.shell: the channels of ECS Exec have no resources.",
            )
        resource = service.node.find_child("Service")
        if plan.is_scaled and isinstance(resource, ecs.CfnService):
            # Auto scaling decides how many engines run; a count here would reset it with every release.
            resource.desired_count = None
        # Tasks that start before their role can read the secrets would count as failed.
        service.node.add_dependency(task.obtain_execution_role())
        if capacity.protection:
            service.node.add_dependency(capacity.protection)
        return service
