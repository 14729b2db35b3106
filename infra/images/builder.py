"""Builds images in the account: CodeBuild builds while CloudFormation waits, so no local Docker is needed."""

from __future__ import annotations

import json
import shlex
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
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from infra.log_group import log_group
from infra.suppressions import accept, accept_registry_login

from .recipes import Architecture, Image, Recipe

HANDLER = Path(__file__).parent / "build"

_MACHINES = {
    "x86_64": ("LINUX_CONTAINER", "aws/codebuild/amazonlinux-x86_64-standard:5.0"),
    "arm64": ("ARM_CONTAINER", "aws/codebuild/amazonlinux-aarch64-standard:3.0"),
}
_ENDED = ["SUCCEEDED", "FAILED", "FAULT", "STOPPED", "TIMED_OUT"]
# A build waits this long for other builds of the account, of which a new account runs one at a time.
_QUEUE_MINUTES = 8
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
        _let_log(self._role, group)
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
        builds = _BuildProject(
            self,
            f"{construct_id}Build",
            recipe=recipe,
            architecture=architecture,
            repository=repository,
            source=source,
            group=group,
        )
        rule = self._report_end(construct_id, builds.project)
        self._role.add_to_policy(
            iam.PolicyStatement(actions=["ecr:DescribeImages"], resources=[repository.repository_arn])
        )
        self._role.add_to_policy(
            iam.PolicyStatement(actions=["logs:GetLogEvents"], resources=[group.log_group_arn])
        )
        tag = recipe.tag(source.asset_hash, architecture)
        build = cdk.CustomResource(
            self,
            f"{construct_id}Image",
            resource_type="Custom::ContainerImage",
            service_token=self._function.function_arn,
            # At most an hour; it covers the build, so that the build's own end is reported.
            service_timeout=cdk.Duration.minutes(_START_MINUTES + _QUEUE_MINUTES + recipe.minutes + 2),
            properties={
                "Project": builds.project.ref,
                "Repository": repository.repository_name,
                "Source": f"{source.s3_bucket_name}/{source.s3_object_key}",
                "ImageTag": tag,
            },
        )
        build.node.add_dependency(self._role, builds.role, rule)
        if self._previous:
            build.node.add_dependency(self._previous)
        self._previous = build
        return Image(ecs.ContainerImage.from_ecr_repository(repository, tag), ready=(build,))

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


class _BuildProject(Construct):
    """The CodeBuild project of one image."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        recipe: Recipe,
        architecture: Architecture,
        repository: ecr.IRepository,
        source: s3_assets.Asset,
        group: logs.LogGroup,
    ) -> None:
        super().__init__(scope, construct_id)
        machine, image = _MACHINES[architecture]
        self.role = _build_role(self, group, repository, source)
        self.project = codebuild.CfnProject(
            self,
            "Project",
            description=f"Builds the {recipe.service} image",
            service_role=self.role.role_arn,
            artifacts=codebuild.CfnProject.ArtifactsProperty(type="NO_ARTIFACTS"),
            environment=codebuild.CfnProject.EnvironmentProperty(
                type=machine,
                image=image,
                compute_type=recipe.compute,
                privileged_mode=True,
                environment_variables=[
                    codebuild.CfnProject.EnvironmentVariableProperty(
                        name="REPOSITORY_URI", value=repository.repository_uri
                    )
                ],
            ),
            source=codebuild.CfnProject.SourceProperty(type="NO_SOURCE", build_spec=_build_spec(recipe)),
            timeout_in_minutes=recipe.minutes,
            queued_timeout_in_minutes=_QUEUE_MINUTES,
            logs_config=codebuild.CfnProject.LogsConfigProperty(
                cloud_watch_logs=codebuild.CfnProject.CloudWatchLogsConfigProperty(
                    status="ENABLED", group_name=group.log_group_name
                )
            ),
        )
        accept(
            self.project,
            "AwsSolutions-CB3",
            reason="`docker build` needs privileged mode; the machine is discarded after each build.",
        )
        accept(
            self.project,
            "AwsSolutions-CB4",
            reason="The key would encrypt artifacts, which these builds do not have.",
        )


def _build_spec(recipe: Recipe) -> str:
    arguments = "".join(
        f" --build-arg {shlex.quote(f'{name}={value}')}" for name, value in recipe.arguments.items()
    )
    build = f'docker build --tag "$REPOSITORY_URI:$IMAGE_TAG"{arguments} source'
    fetch = 'aws s3 cp --only-show-errors "s3://$SOURCE" source.zip'
    commands = [
        # The role names the asset, and IAM takes some seconds to apply a changed policy everywhere.
        f"{fetch} || {{ sleep 20; {fetch}; }}",
        "unzip -q source.zip -d source",
        'aws ecr get-login-password | docker login --username AWS --password-stdin "${REPOSITORY_URI%%/*}"',
        # Retry once: registries of base images sometimes fail.
        f"{build} || {{ sleep 30; {build}; }}",
        'docker push "$REPOSITORY_URI:$IMAGE_TAG"',
    ]
    return json.dumps({"version": "0.2", "phases": {"build": {"commands": commands}}})


def _build_role(
    scope: Construct, group: logs.LogGroup, repository: ecr.IRepository, source: s3_assets.Asset
) -> iam.Role:
    role = iam.Role(scope, "Role", assumed_by=iam.ServicePrincipal("codebuild.amazonaws.com"))
    _let_log(role, group)
    role.add_to_policy(
        iam.PolicyStatement(
            actions=["s3:GetObject"], resources=[source.bucket.arn_for_objects(source.s3_object_key)]
        )
    )
    role.add_to_policy(
        iam.PolicyStatement(
            actions=[
                "ecr:BatchCheckLayerAvailability",
                "ecr:BatchGetImage",
                "ecr:CompleteLayerUpload",
                "ecr:GetDownloadUrlForLayer",
                "ecr:InitiateLayerUpload",
                "ecr:PutImage",
                "ecr:UploadLayerPart",
            ],
            resources=[repository.repository_arn],
        )
    )
    role.add_to_policy(iam.PolicyStatement(actions=["ecr:GetAuthorizationToken"], resources=["*"]))
    accept_registry_login(role)
    return role


def _let_log(role: iam.Role, group: logs.LogGroup) -> None:
    role.add_to_policy(
        iam.PolicyStatement(
            actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[group.log_group_arn]
        )
    )
