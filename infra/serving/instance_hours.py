"""The guard on instance hours: an alarm that stops all engines."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.deployment.plan import Plan
from infra.suppressions import accept

from .engine import Engine
from .function import small_function
from .gpu_instances import GpuCapacity

_DAY = cdk.Duration.days(1)


def instance_hours_of_a_day(capacity: GpuCapacity) -> cloudwatch.MathExpression:
    """Returns the instance hours of a day: the group reports the number of its instances once per minute."""
    instances = capacity.instances(_DAY).with_(statistic=cloudwatch.Stats.SUM)
    return cloudwatch.MathExpression(
        expression="instances / 60",
        using_metrics={"instances": instances},
        label="Instance hours of a day",
        period=_DAY,
    )


def stopping_function(scope: Construct, *, engine: Engine, cluster_name: str, plan: Plan) -> lambda_.Function:
    """Returns the function that sets the maximum number of engines to 0."""
    targets = cdk.Stack.of(scope).format_arn(
        service="application-autoscaling", resource="scalable-target", resource_name="*"
    )
    function = small_function(
        scope,
        f"StopEngines{plan.label}",
        module="instance_hours",
        description="Stops all engines after gpu.max_instance_hours_per_day",
        statements=[
            iam.PolicyStatement(
                actions=["application-autoscaling:RegisterScalableTarget"],
                resources=[targets],
                conditions={"StringEquals": {"application-autoscaling:service-namespace": "ecs"}},
            ),
            iam.PolicyStatement(
                actions=["ecs:DescribeServices", "ecs:UpdateService"], resources=[engine.service.service_arn]
            ),
        ],
        accepted={
            "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:application-autoscaling:<AWS::Region>:"
            "<AWS::AccountId>:scalable-target/*]": "The ID of a target is not known before it exists.",
        },
        deployment=plan.deployment,
    )
    function.add_environment("RESOURCE_ID", f"service/{cluster_name}/{engine.service.service_name}")
    accept(function, "CKV_AWS_173", reason="The name of the service, in the environment, is not secret.")
    return function
