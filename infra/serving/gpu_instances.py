"""GPU instances: an Auto Scaling group behind a capacity provider of the cluster."""

from __future__ import annotations

import aws_cdk as cdk
import jsii
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from constructs import Construct, IConstruct

from infra.deployment.plan import AMI_PARAMETER, RECOMMENDED_AMI, Plan
from infra.foundation.network import private_subnets
from infra.suppressions import accept

from .unprotected import Unprotected
from .user_data import user_data

CACHE_DIRECTORY = "/mnt/instance-store/cache"
"""On the host: weights and compiled kernels."""

_SHELL_ACTIONS = (
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)

_ROOT_DEVICE = "/dev/xvda"


class GpuCapacity(Construct):
    """Instances for the engines. Services use `provider` in their capacity-provider strategy."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        cluster: ecs.Cluster,
        plan: Plan,
    ) -> None:
        super().__init__(scope, construct_id)
        group = self._group(cluster, plan)
        if plan.deployment.gpu.warm_instances:
            _add_warm_pool(group, plan)
        provider = ecs.AsgCapacityProvider(
            self,
            "Provider",
            auto_scaling_group=group,
            # Of several instances, scale-in could end a busy one. Protected instances would make
            # `cdk destroy` hang, so `Unprotected` clears the protection.
            enable_managed_termination_protection=plan.protects_instances,
            enable_managed_draining=True,
            # Managed scaling keeps this share in use, and the spare instance is the rest.
            target_capacity_percent=plan.target_capacity_percent,
            instance_warmup_period=300,
        )
        cluster.add_asg_capacity_provider(provider)
        self.provider = provider.capacity_provider_name
        self.group_name = group.auto_scaling_group_name
        self.protection = (
            Unprotected(self, "Unprotected", group=group, deployment=plan.deployment)
            if plan.protects_instances
            else None
        )
        """What services must depend on: it is to be deleted after them, and before the instances."""
        cdk.Aspects.of(cluster).add(_ServicesWaitForProviders())

    def instances(self, period: cdk.Duration) -> cloudwatch.Metric:
        """Returns the number of running instances."""
        return cloudwatch.Metric(
            namespace="AWS/AutoScaling",
            metric_name="GroupInServiceInstances",
            dimensions_map={"AutoScalingGroupName": self.group_name},
            statistic=cloudwatch.Stats.AVERAGE,
            period=period,
        )

    def _group(self, cluster: ecs.Cluster, plan: Plan) -> autoscaling.AutoScalingGroup:
        settings = plan.deployment.gpu
        spot = settings.capacity == "spot"
        group = autoscaling.AutoScalingGroup(
            self,
            "Instances",
            vpc=cluster.vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=private_subnets(cluster.vpc)),
            # Managed scaling starts the instances. One that started before the cluster knows the capacity
            # provider might never be usable, and would idle during the image build at the price of a GPU.
            min_capacity=0,
            max_capacity=plan.instance_count,
            mixed_instances_policy=autoscaling.MixedInstancesPolicy(
                launch_template=self._launch_template(cluster, plan),
                launch_template_overrides=[
                    autoscaling.LaunchTemplateOverrides(instance_type=ec2.InstanceType(name))
                    for name in settings.instance_types
                ],
                instances_distribution=autoscaling.InstancesDistribution(
                    on_demand_base_capacity=plan.on_demand_count if spot else None,
                    on_demand_percentage_above_base_capacity=0 if spot else 100,
                    on_demand_allocation_strategy=autoscaling.OnDemandAllocationStrategy.PRIORITIZED,
                    spot_allocation_strategy=autoscaling.SpotAllocationStrategy.CAPACITY_OPTIMIZED_PRIORITIZED,
                ),
            ),
            # Changed instances are replaced one at a time. The old one is terminated first, since the
            # account's quota may not allow one more.
            update_policy=autoscaling.UpdatePolicy.rolling_update(
                max_batch_size=1,
                min_instances_in_service=max(plan.instances_for(plan.limits.least) - 1, 0),
            ),
            group_metrics=[autoscaling.GroupMetrics.all()],
        )
        accept(
            group,
            "AwsSolutions-EC26",
            reason="The rule does not look into the launch template, which encrypts the volume.",
        )
        accept(
            group,
            "AwsSolutions-AS3",
            reason="The ECS service reports what happens to engines; instances follow it.",
        )
        return group

    def _launch_template(self, cluster: ecs.Cluster, plan: Plan) -> ec2.LaunchTemplate:
        settings = plan.deployment.gpu
        security_group = ec2.SecurityGroup(
            self,
            "SecurityGroup",
            vpc=cluster.vpc,
            description="GPU instances: nothing comes in, HTTPS goes out",
            allow_all_outbound=False,
        )
        security_group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "ECS and ECR")
        role = self._role(cluster)
        if settings.shell:
            _allow_session_manager(role)
        template = ec2.LaunchTemplate(
            self,
            "LaunchTemplate",
            instance_type=ec2.InstanceType(settings.instance_types[0]),
            # Resolved when an instance starts, so a newer AMI does not replace running instances.
            machine_image=ec2.MachineImage.resolve_ssm_parameter_at_launch(AMI_PARAMETER),
            role=role.without_policy_updates(),
            security_group=security_group,
            user_data=ec2.UserData.custom(user_data(warm_pool=settings.warm_instances > 0)),
            require_imdsv2=True,
            http_put_response_hop_limit=2,
            block_devices=[
                ec2.BlockDevice(
                    device_name=_ROOT_DEVICE,
                    volume=ec2.BlockDeviceVolume.ebs(
                        settings.root_volume_gib,
                        encrypted=True,
                        volume_type=ec2.EbsDeviceVolumeType.GP3,
                        throughput=None if plan.images_on_instance_store else plan.root_volume_mb_per_s,
                        delete_on_termination=True,
                    ),
                )
            ],
        )
        resource = template.node.find_child("Resource")
        if settings.ami != RECOMMENDED_AMI and isinstance(resource, cdk.CfnResource):
            resource.add_property_override("LaunchTemplateData.ImageId", settings.ami)
        return template

    def _role(self, cluster: ecs.Cluster) -> iam.Role:
        """Grants the permissions of the ECS agent. Pulling images belongs to the execution role."""
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"))
        role.add_to_policy(
            iam.PolicyStatement(
                actions=[
                    "ecs:DeregisterContainerInstance",
                    "ecs:RegisterContainerInstance",
                    "ecs:SubmitAttachmentStateChanges",
                    "ecs:SubmitContainerStateChange",
                    "ecs:SubmitTaskStateChange",
                ],
                resources=[cluster.cluster_arn],
            )
        )
        role.add_to_policy(
            iam.PolicyStatement(
                # AWS sends the cluster with these actions only, whose resource is the container instance.
                actions=["ecs:Poll", "ecs:StartTelemetrySession", "ecs:UpdateContainerInstancesState"],
                resources=["*"],
                conditions={"ArnEquals": {"ecs:cluster": cluster.cluster_arn}},
            )
        )
        role.add_to_policy(iam.PolicyStatement(actions=["ecs:DiscoverPollEndpoint"], resources=["*"]))
        accept(
            role,
            "AwsSolutions-IAM5[Resource::*]",
            reason="ecs:DiscoverPollEndpoint has no resources; a condition limits the rest to the cluster.",
        )
        return role


def _add_warm_pool(group: autoscaling.AutoScalingGroup, plan: Plan) -> None:
    """Keeps stopped instances. ECS accepts none back at scale-in: it would take them for lost ones."""
    warm = plan.deployment.gpu.warm_instances
    group.add_warm_pool(
        pool_state=autoscaling.PoolState.STOPPED,
        reuse_on_scale_in=False,
        # The pool refills at once, except if all instances of the group are warm: the quota for vCPU
        # may have no room for one that starts in order to be stopped.
        min_size=warm if warm < plan.instance_count else 0,
        max_group_prepared_capacity=warm,
    )


def _allow_session_manager(role: iam.Role) -> None:
    """Allows what the agent of Session Manager needs for shells, and nothing else that it can do."""
    instances = cdk.Stack.of(role).format_arn(service="ec2", resource="instance", resource_name="*")
    role.add_to_policy(iam.PolicyStatement(actions=["ssm:UpdateInstanceInformation"], resources=[instances]))
    role.add_to_policy(iam.PolicyStatement(actions=[*_SHELL_ACTIONS], resources=["*"]))
    accept(
        role,
        "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:ec2:<AWS::Region>:<AWS::AccountId>:instance/*]",
        reason="gpu.shell: the agent of Session Manager registers its own instance, whose ID is not known.",
    )


@jsii.implements(cdk.IAspect)
class _ServicesWaitForProviders:
    """Creates services after their capacity provider is associated with the cluster; deletes them before.

    The CDK does not add this dependency (aws/containers-roadmap#631).
    """

    def visit(self, node: IConstruct) -> None:
        if isinstance(node, ecs.CfnClusterCapacityProviderAssociations):
            stack = cdk.Stack.of(node)
            for construct in stack.node.find_all():
                if (
                    isinstance(construct, ecs.CfnService)
                    and construct.capacity_provider_strategy
                    and stack.resolve(construct.cluster) == stack.resolve(node.cluster)
                ):
                    construct.add_resource_dependency(node)
