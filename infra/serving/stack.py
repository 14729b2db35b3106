"""The stack of everything that a release changes: images, instances, services, ingress, alarms."""

from __future__ import annotations

from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_servicediscovery as servicediscovery
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
from .model_files import model_files
from .monitoring import Monitoring
from .orchestrator import Orchestrator
from .outputs import Outputs
from .served_model import ServedModel


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
        self._parent: tuple[Construct, servicediscovery.INamespace] | None = None
        deployment, vpc, keys = plan.deployment, foundation.network.vpc, foundation.keys
        builder = self._builder(deployment)
        images = self._images(deployment, foundation, builder)
        cluster = self._cluster(vpc, "Cluster", deployment)
        served = [
            self._serve(entry, cluster=cluster, image=images[1], key=keys.engine, builder=builder)
            for entry in plan.entries
        ]
        orchestrator = Orchestrator(
            self,
            "Orchestrator",
            cluster=cluster,
            image=images[0],
            plan=plan,
            engines=[one.engine for one in served],
            keys=keys,
            usage=foundation.usage.table,
        )
        ingress = self._ingress(vpc, deployment, orchestrator)
        Monitoring(self, "Monitoring", served=served, orchestrator=orchestrator, ingress=ingress)
        Outputs(
            self,
            "Outputs",
            deployment=deployment,
            cluster=cluster,
            served=served,
            orchestrator=orchestrator,
            ingress=ingress,
            keys=keys,
            usage=foundation.usage.table,
        )

    def _serve(
        self,
        plan: Plan,
        *,
        cluster: ecs.Cluster,
        image: Image,
        key: secretsmanager.ISecret,
        builder: ImageBuilder | None,
    ) -> ServedModel:
        """Adds the instances and engines of a model. Names without a label are those of a single model."""
        label = plan.label
        if label:
            # A capacity provider in use cannot leave its cluster, so a shared one would keep every model.
            cluster = self._cluster(cluster.vpc, f"Cluster{label}", plan.deployment)
        capacity = GpuCapacity(self, f"GpuCapacity{label}", cluster=cluster, plan=plan)
        engines, namespace = self._engines(cluster.vpc, plan.deployment)
        engine = Engine(
            engines,
            label or "Default",  # which is not part of names
            cluster=cluster,
            namespace=namespace,
            capacity=capacity,
            image=image,
            plan=plan,
            key=key,
            files=model_files(self, plan, builder),
        )
        if plan.is_scaled:
            EngineScaling(
                self,
                f"EngineScaling{label}",
                engine=engine,
                capacity=capacity,
                cluster_name=cluster.cluster_name,
                plan=plan,
            )
        return ServedModel(plan, cluster, capacity, engine)

    def _engines(
        self, vpc: ec2.IVpc, deployment: Deployment
    ) -> tuple[Construct, servicediscovery.INamespace]:
        """Returns the parent of the engines of all models, and their namespace."""
        if self._parent is None:
            parent = Construct(self, "Engine")
            self._parent = (
                parent,
                servicediscovery.PrivateDnsNamespace(
                    parent, "Namespace", name=f"{deployment.name}.internal", vpc=vpc
                ),
            )
        return self._parent

    def _ingress(self, vpc: ec2.IVpc, deployment: Deployment, orchestrator: Orchestrator) -> Ingress:
        return Ingress(
            self,
            "Ingress",
            vpc=vpc,
            deployment=deployment,
            orchestrator=orchestrator,
            certificate_arn=certificate_arn(self, deployment),
        )

    def _cluster(self, vpc: ec2.IVpc, name: str, deployment: Deployment) -> ecs.Cluster:
        insights = deployment.metrics.container_insights
        cluster = ecs.Cluster(
            self,
            name,
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
        mirrors = any(one.model.source == MIRROR for one in deployment.entries)
        if deployment.images.build == "local" and not mirrors:
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
