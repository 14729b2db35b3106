"""The bucket of the model's weights and of what engines have compiled."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.deployment.file import Deployment
from infra.suppressions import accept, accept_emptying

CACHE_PREFIX = "engine-cache"
_CACHE_DAYS = 90


class ModelBucket(Construct):
    """Encrypted, private, and emptied with the deployment. It outlives releases, for rollbacks."""

    def __init__(self, scope: Construct, construct_id: str, *, deployment: Deployment) -> None:
        super().__init__(scope, construct_id)
        retain = deployment.removal_policy == "retain"
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            bucket_name=model_bucket_name(deployment),
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            lifecycle_rules=[
                s3.LifecycleRule(abort_incomplete_multipart_upload_after=cdk.Duration.days(1)),
                # Each change of the image or the flags makes a new cache.
                s3.LifecycleRule(prefix=f"{CACHE_PREFIX}/", expiration=cdk.Duration.days(_CACHE_DAYS)),
            ],
            removal_policy=cdk.RemovalPolicy.RETAIN if retain else cdk.RemovalPolicy.DESTROY,
            auto_delete_objects=not retain,
        )
        accept(
            self.bucket,
            "AwsSolutions-S1",
            "CKV_AWS_18",
            "CKV_AWS_21",
            reason="Everything in it can be downloaded or compiled again.",
        )
        if not retain:
            accept_emptying(self)


def model_bucket_name(deployment: Deployment) -> str:
    """Returns the name of the bucket.

    Other stacks use the name instead of an export, which could not be removed while it is in use: so a
    deployment can return to `model.source: hub`.
    """
    return f"{deployment.name}-models-{cdk.Aws.ACCOUNT_ID}-{cdk.Aws.REGION}"
