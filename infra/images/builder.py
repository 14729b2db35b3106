"""Builds images in the account: CodeBuild builds while CloudFormation waits, so no local Docker is needed."""

from __future__ import annotations

from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from infra.log_group import log_group
from infra.suppressions import accept

from .projects import (
    MIRROR_MINUTES,
    QUEUE_MINUTES,
    BuildProject,
    ImageProject,
    MirrorProject,
    let_log,
    mirror_source,
)
from .recipes import Architecture, Image, Recipe

HANDLER = Path(__file__).parent / "build"

_ENDED = ["SUCCEEDED", "FAILED", "FAULT", "STOPPED", "TIMED_OUT"]
_START_MINUTES = 5


class ImageBuilder(Construct):
    """A Lambda function that starts builds and reports their results. `image` adds an image.

    Images are built one after the other, in the order in which they are added.
    """

    def __init__(self, scope: Construct, construct_id: str, *, retention_days: int, retain: bool) -> None:
        super().__init__(scope, construct_id)
        self._retention_days = retention_days
        self._retain = retain
        self._previous: cdk.CustomResource | None = None
        group = self._log_group("Logs")
        self._role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        let_log(self._role, group)
        self._function = lambda_.Function(
            self,
            "Function",
            description="Starts image builds and reports their results to CloudFormation",
            runtime=lambda_.Runtime.PYTHON_3_14,
            code=lambda_.Code.from_asset(str(HANDLER), exclude=["__pycache__"]),
            handler="handler.handle",
            timeout=cdk.Duration.minutes(_START_MINUTES),
            role=self._role.without_policy_updates(),
            log_group=group,
        )
        accept(
            self._function,
            "CKV_AWS_115",
            "CKV_AWS_116",
            "CKV_AWS_117",
            reason="Invoked a few times per release by services that retry; it only calls AWS.",
        )

    def image(
        self, construct_id: str, *, recipe: Recipe, architecture: Architecture, repository: ecr.IRepository
    ) -> Image:
        """Adds an image in `repository`. Its tag is a hash of its sources, so a change makes a new image."""
        source = s3_assets.Asset(
            self,
            f"{construct_id}Source",
            path=recipe.directory,
            exclude=recipe.ignored,
            ignore_mode=cdk.IgnoreMode.DOCKER,
        )
        group = self._log_group(f"{construct_id}Logs")
        builds = ImageProject(
            self,
            f"{construct_id}Build",
            recipe=recipe,
            architecture=architecture,
            repository=repository,
            source=source,
            group=group,
        )
        self._role.add_to_policy(
            iam.PolicyStatement(actions=["ecr:DescribeImages"], resources=[repository.repository_arn])
        )
        tag = recipe.tag(source.asset_hash, architecture)
        build = self._build(
            construct_id,
            "Custom::ContainerImage",
            builds=builds,
            minutes=recipe.minutes,
            properties={
                "Repository": repository.repository_name,
                "Source": f"{source.s3_bucket_name}/{source.s3_object_key}",
                "ImageTag": tag,
            },
        )
        return Image(ecs.ContainerImage.from_ecr_repository(repository, tag), ready=(build,))

    def mirror(
        self,
        construct_id: str,
        *,
        model: str,
        revision: str | None,
        bucket: s3.IBucket,
        prefix: str,
        token_arn: str | None,
    ) -> Construct:
        """Adds a copy of a model from the Hugging Face Hub in a bucket. Another revision makes a new copy."""
        source = mirror_source(self, f"{construct_id}Source")
        builds = MirrorProject(
            self,
            f"{construct_id}Build",
            model=model,
            revision=revision,
            bucket=bucket,
            prefix=prefix,
            token_arn=token_arn,
            source=source,
            group=self._log_group(f"{construct_id}Logs"),
        )
        return self._build(
            construct_id,
            "Custom::ModelMirror",
            builds=builds,
            minutes=MIRROR_MINUTES,
            properties={
                "Source": f"{source.s3_bucket_name}/{source.s3_object_key}",
                "Target": f"s3://{bucket.bucket_name}/{prefix}",
            },
        )

    def _build(
        self,
        construct_id: str,
        resource_type: str,
        *,
        builds: BuildProject,
        minutes: int,
        properties: dict[str, str],
    ) -> cdk.CustomResource:
        """Adds a resource that is there when its build has ended."""
        rule = self._report_end(construct_id, builds.project)
        self._role.add_to_policy(
            iam.PolicyStatement(actions=["logs:GetLogEvents"], resources=[builds.group.log_group_arn])
        )
        build = cdk.CustomResource(
            self,
            f"{construct_id}Image" if "ImageTag" in properties else f"{construct_id}Mirror",
            resource_type=resource_type,
            service_token=self._function.function_arn,
            # At most an hour; it covers the build, so that the build's own end is reported.
            service_timeout=cdk.Duration.minutes(_START_MINUTES + QUEUE_MINUTES + minutes + 2),
            properties={"Project": builds.project.ref, **properties},
        )
        build.node.add_dependency(self._role, builds.role, rule)
        if self._previous:
            build.node.add_dependency(self._previous)
        self._previous = build
        return build

    def _report_end(self, construct_id: str, project: codebuild.CfnProject) -> events.Rule:
        self._role.add_to_policy(
            iam.PolicyStatement(
                actions=["codebuild:StartBuild", "codebuild:BatchGetBuilds"], resources=[project.attr_arn]
            )
        )
        return events.Rule(
            self,
            f"{construct_id}Ended",
            description="A build of an image has ended",
            event_pattern=events.EventPattern(
                source=["aws.codebuild"],
                detail_type=["CodeBuild Build State Change"],
                detail={"project-name": [project.ref], "build-status": _ENDED},
            ),
            targets=[targets.LambdaFunction(self._function)],
        )

    def _log_group(self, construct_id: str) -> logs.LogGroup:
        return log_group(self, construct_id, retention_days=self._retention_days, retain=self._retain)
