"""Image registries."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from constructs import Construct

from infra.suppressions import accept

KEPT_IMAGES = 10


class Registries(Construct):
    """One repository per tier. They outlive releases, so that a release can be rolled back."""

    def __init__(self, scope: Construct, construct_id: str, *, prefix: str, retain: bool) -> None:
        super().__init__(scope, construct_id)
        self.orchestrator = self._repository("Orchestrator", f"{prefix}/orchestrator", retain=retain)
        self.vllm = self._repository("Vllm", f"{prefix}/vllm", retain=retain)

    def _repository(self, construct_id: str, name: str, *, retain: bool) -> ecr.Repository:
        repository = ecr.Repository(
            self,
            construct_id,
            # A retained repository would keep its name, so the next deployment could not create it.
            repository_name=None if retain else name,
            image_scan_on_push=True,
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            removal_policy=cdk.RemovalPolicy.RETAIN if retain else cdk.RemovalPolicy.DESTROY,
            empty_on_delete=not retain,
            lifecycle_rules=[
                ecr.LifecycleRule(description=f"Keep {KEPT_IMAGES} images", max_image_count=KEPT_IMAGES)
            ],
        )
        accept(repository, "CKV_AWS_136", reason="ECR encrypts with AES-256 and its own key.")
        return repository
