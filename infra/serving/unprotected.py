"""Lets a stack be deleted although its instances are protected from scale-in."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.deployment.file import Deployment

from .function import small_function


def _shown(group: autoscaling.AutoScalingGroup) -> str:
    """The ARN of a group as cdk-nag shows it."""
    resource = group.node.find_child("ASG")
    assert isinstance(resource, cdk.CfnElement)
    name = cdk.Stack.of(group).get_logical_id(resource)
    return (
        "arn:<AWS::Partition>:autoscaling:<AWS::Region>:<AWS::AccountId>:autoScalingGroup:*:"
        f"autoScalingGroupName/<{name}>"
    )


class Unprotected(cdk.CustomResource):
    """Clears the protection of a group's instances when it is deleted, which is before the group is."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        group: autoscaling.AutoScalingGroup,
        deployment: Deployment,
    ) -> None:
        name = group.auto_scaling_group_name
        handler = small_function(
            scope,
            f"{construct_id}Function",
            module="unprotect",
            description="Clears the scale-in protection of instances when the stack is deleted",
            statements=[
                iam.PolicyStatement(
                    actions=["autoscaling:UpdateAutoScalingGroup", "autoscaling:SetInstanceProtection"],
                    resources=[
                        cdk.Stack.of(scope).format_arn(
                            service="autoscaling",
                            resource="autoScalingGroup",
                            resource_name=f"*:autoScalingGroupName/{name}",
                            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
                        )
                    ],
                ),
                # It has no resources.
                iam.PolicyStatement(actions=["autoscaling:DescribeAutoScalingGroups"], resources=["*"]),
            ],
            accepted={
                f"AwsSolutions-IAM5[Resource::{_shown(group)}]": "The ARN of a group has an ID.",
                "AwsSolutions-IAM5[Resource::*]": "autoscaling:DescribeAutoScalingGroups has no resources.",
            },
            deployment=deployment,
        )
        super().__init__(
            scope,
            construct_id,
            resource_type="Custom::Unprotected",
            service_token=handler.function_arn,
            service_timeout=cdk.Duration.minutes(6),
            properties={"AutoScalingGroupName": name},
        )
        self.node.add_dependency(handler)
