"""The load balancer's access logs, in a bucket with the same retention as the other logs."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.deployment.file import Deployment
from infra.suppressions import accept, accept_emptying

LOG_DELIVERY = "logdelivery.elasticloadbalancing.amazonaws.com"


class AccessLogs(Construct):
    """One line per request with addresses and times, without bodies or keys."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        load_balancer: elbv2.ApplicationLoadBalancer,
        deployment: Deployment,
    ) -> None:
        super().__init__(scope, construct_id)
        retain = deployment.removal_policy == "retain"
        bucket = self._bucket(deployment.logs.retention_days, retain=retain)
        if not retain:
            accept_emptying(self)
        load_balancer.set_attribute("access_logs.s3.enabled", "true")
        load_balancer.set_attribute("access_logs.s3.bucket", bucket.bucket_name)
        load_balancer.node.add_dependency(bucket)

    def _bucket(self, retention_days: int, *, retain: bool) -> s3.Bucket:
        bucket = s3.Bucket(
            self,
            "Bucket",
            # The load balancer supports no other encryption.
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            lifecycle_rules=[
                s3.LifecycleRule(
                    expiration=cdk.Duration.days(retention_days),
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
                )
            ],
            removal_policy=cdk.RemovalPolicy.RETAIN if retain else cdk.RemovalPolicy.DESTROY,
            auto_delete_objects=not retain,
        )
        bucket.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(LOG_DELIVERY)],
                actions=["s3:PutObject"],
                resources=[bucket.arn_for_objects(f"AWSLogs/{cdk.Aws.ACCOUNT_ID}/*")],
            )
        )
        accept(
            bucket,
            "AwsSolutions-S1",
            "CKV_AWS_18",
            "CKV_AWS_21",
            reason="A log bucket: written once, read by people, deleted after a while.",
        )
        return bucket
