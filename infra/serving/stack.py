"""The stack of everything that a release changes: images, instances, services, ingress, alarms."""

from __future__ import annotations

from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from infra.deployment.file import Deployment
from infra.deployment.plan import Plan
from infra.deployment.settings import MIRROR
from infra.foundation.certificate import certificate_arn
from infra.foundation.stack import FoundationStack
from infra.images.builder import ImageBuilder
from infra.images.context import with_tools
from infra.images.recipes import ORCHESTRATOR, VLLM, Image, local_image
from infra.suppressions import accept

from .engine import Engine
from .engine_scaling import EngineScaling
from .gpu_instances import GpuCapacity
from .ingress.load_balancer import Ingress
from .model_files import ModelFiles, model_files
from .monitoring import Monitoring
from .orchestrator import Orchestrator
from .outputs import Outputs


class ServingStack(cdk.Stack):
    """The stack that is deployed second and with every release."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        plan: Plan,
        foundation: FoundationStack,
        env: cdk.Environment | None,
    ) -> None:
        description = "Tandem: engine, orchestrator and load balancer"
        super().__init__(scope, construct_id, env=env, description=description)
        self.add_stack_dependency(foundation)
        deployment, vpc, keys = plan.deployment, foundation.network.vpc, foundation.keys
        builder = self._builder(deployment)
        images = self._images(deployment, foundation, builder)
        cluster = self._cluster(vpc, deployment)
        capacity = GpuCapacity(self, "GpuCapacity", cluster=cluster, plan=plan)
        files = model_files(self, plan, builder)
        engine = self._engine(cluster, capacity, plan, images[1], keys.engine, files=files)
        orchestrator = Orchestrator(
            self,
            "Orchestrator",
            cluster=cluster,
            image=images[0],
            plan=plan,
            engine=engine,
            keys=keys,
            usage=foundation.usage.table,
        )
        ingress = self._ingress(vpc, deployment, orchestrator)
        Monitoring(
            self,
            "Monitoring",
            plan=plan,
            capacity=capacity,
            engine=engine,
            orchestrator=orchestrator,
            ingress=ingress,
        )
        Outputs(
            self,
            "Outputs",
            deployment=deployment,
            cluster=cluster,
            engine=engine,
            orchestrator=orchestrator,
            ingress=ingress,
            keys=keys,
            usage=foundation.usage.table,
        )

    def _engine(
        self,
        cluster: ecs.Cluster,
        capacity: GpuCapacity,
        plan: Plan,
        image: Image,
        key: secretsmanager.ISecret,
        *,
        files: ModelFiles | None,
    ) -> Engine:
        engine = Engine(
            self, "Engine", cluster=cluster, capacity=capacity, image=image, plan=plan, key=key, files=files
        )
        if plan.is_scaled:
            EngineScaling(
                self,
                "EngineScaling",
                engine=engine,
                capacity=capacity,
                cluster_name=cluster.cluster_name,
                plan=plan,
            )
        return engine

    def _ingress(self, vpc: ec2.IVpc, deployment: Deployment, orchestrator: Orchestrator) -> Ingress:
        return Ingress(
            self,
            "Ingress",
            vpc=vpc,
            deployment=deployment,
            orchestrator=orchestrator,
            certificate_arn=certificate_arn(self, deployment),
        )

    def _cluster(self, vpc: ec2.IVpc, deployment: Deployment) -> ecs.Cluster:
        insights = deployment.metrics.container_insights
        cluster = ecs.Cluster(
            self,
            "Cluster",
            vpc=vpc,
            execute_command_configuration=ecs.ExecuteCommandConfiguration(
                logging=ecs.ExecuteCommandLogging.NONE
            )
            if deployment.gpu.shell
            else None,
            container_insights_v2=ecs.ContainerInsights.ENABLED
            if insights
            else ecs.ContainerInsights.DISABLED,
        )
        if not insights:
            accept(
                cluster,
                "AwsSolutions-ECS4",
                "CKV_AWS_65",
                reason="Container Insights is charged per metric: metrics.container_insights.",
            )
        return cluster

    def _builder(self, deployment: Deployment) -> ImageBuilder | None:
        """Returns what builds in the account; None if nothing does."""
        if deployment.images.build == "local" and deployment.model.source != MIRROR:
            return None
        return ImageBuilder(
            self,
            "ImageBuilder",
            retention_days=deployment.logs.retention_days,
            retain=deployment.removal_policy == "retain",
        )

    def _images(
        self, deployment: Deployment, foundation: FoundationStack, builder: ImageBuilder | None
    ) -> tuple[Image, Image]:
        """Returns the images of the orchestrator and the engine."""
        architecture = deployment.orchestrator.architecture
        stage = cdk.Stage.of(self)
        assert stage
        recipe = with_tools(ORCHESTRATOR, deployment.tools, into=Path(stage.outdir) / "orchestrator-image")
        if deployment.images.build == "local" or builder is None:
            return (
                local_image(self, "OrchestratorImage", recipe=recipe, architecture=architecture),
                local_image(self, "EngineImage", recipe=VLLM, architecture="x86_64"),
            )
        return (
            builder.image(
                "Orchestrator",
                recipe=recipe,
                architecture=architecture,
                repository=foundation.registries.orchestrator,
            ),
            builder.image(
                "Engine",
                recipe=VLLM,
                architecture="x86_64",
                repository=foundation.registries.vllm,
            ),
        )
