"""The model's files in S3: which an engine reads, and where it keeps what it has compiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.deployment.model_settings import Model
from infra.deployment.plan import Plan
from infra.deployment.settings import HUB, MIRROR
from infra.foundation.model_bucket import CACHE_PREFIX, model_bucket_name
from infra.images.builder import ImageBuilder
from infra.suppressions import accept_objects


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Places in S3.

    Attributes:
        source: The model's files, as s3://bucket/prefix.
        cache: What engines have compiled.
        ready: What must exist before an engine starts.
    """

    source: str
    cache: str
    readable: tuple[s3.IBucket, str]
    writable: tuple[s3.IBucket, str]
    ready: tuple[Construct, ...]

    def grant(self, role: iam.IRole) -> None:
        """Lets an engine read the model's files, and read and write what it has compiled."""
        for (bucket, prefix), actions in (
            (self.readable, ["s3:GetObject"]),
            (self.writable, ["s3:GetObject", "s3:PutObject"]),
        ):
            _grant_objects(role, bucket, prefix, actions)
        buckets = {bucket.bucket_arn: None for bucket, _ in (self.readable, self.writable)}
        role.add_to_principal_policy(iam.PolicyStatement(actions=["s3:ListBucket"], resources=[*buckets]))


def model_files(scope: Construct, plan: Plan, builder: ImageBuilder | None) -> ModelFiles | None:
    """Returns where the model's files are; None if engines download them from the Hub."""
    model = plan.deployment.model
    if model.source == HUB:
        return None
    own = s3.Bucket.from_bucket_name(scope, f"Models{plan.label}", model_bucket_name(plan.deployment))
    cache = f"s3://{own.bucket_name}/{CACHE_PREFIX}"
    if model.source != MIRROR:
        yours = _place(scope, f"YourModel{plan.label}", model.source)
        return ModelFiles(model.source, cache, yours, (own, CACHE_PREFIX), ())
    assert builder
    mirror = builder.mirror(
        f"Model{plan.label}",
        model=model.id,
        revision=plan.model_revision,
        bucket=own,
        prefix=plan.model_prefix,
        token_arn=model.hf_token_secret_arn,
    )
    source = f"s3://{own.bucket_name}/{plan.model_prefix}"
    return ModelFiles(source, cache, (own, plan.model_prefix), (own, CACHE_PREFIX), (mirror,))


def let_read_adapters(scope: Construct, role: iam.IRole, model: Model) -> None:
    """Lets an engine read its adapters in S3, and nothing beside them."""
    sources = (*model.adapters.values(), model.adapters_from or "")
    places = sorted({place.rstrip("/") for place in sources if place.startswith("s3://")})
    for number, place in enumerate(places, 1):
        bucket, prefix = _place(scope, f"Adapters{number}", place)
        _grant_objects(role, bucket, prefix, ["s3:GetObject"])
        # Without it, S3 answers "access denied" where a file is missing.
        role.add_to_principal_policy(
            iam.PolicyStatement(actions=["s3:ListBucket"], resources=[bucket.bucket_arn])
        )


def _place(scope: Construct, construct_id: str, url: str) -> tuple[s3.IBucket, str]:
    """Returns the bucket and the prefix of s3://bucket/prefix."""
    name, _, prefix = url.removeprefix("s3://").partition("/")
    return s3.Bucket.from_bucket_name(scope, construct_id, name), prefix


def _grant_objects(role: iam.IRole, bucket: s3.IBucket, prefix: str, actions: Sequence[str]) -> None:
    objects = f"{prefix}/*" if prefix else "*"
    statement = iam.PolicyStatement(actions=[*actions], resources=[bucket.arn_for_objects(objects)])
    role.add_to_principal_policy(statement)
    accept_objects(role, bucket, objects)
