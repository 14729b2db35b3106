"""The CodeBuild projects: one per image, and one that mirrors a model."""

from __future__ import annotations

import json
import shlex

import aws_cdk as cdk
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from infra.suppressions import accept, accept_objects, accept_registry_login

from .recipes import SERVICES, Architecture, Recipe, only

QUEUE_MINUTES = 8
"""A build waits this long for other builds of the account, of which a new account runs one at a time."""

MIRROR_MINUTES = 44
_MIRROR_REQUIREMENTS = "mirror-requirements.txt"

_MACHINES = {
    "x86_64": ("LINUX_CONTAINER", "aws/codebuild/amazonlinux-x86_64-standard:5.0"),
    "arm64": ("ARM_CONTAINER", "aws/codebuild/amazonlinux-aarch64-standard:3.0"),
}
ZSTD_PUSH = "type=image,push=true,compression=zstd,force-compression=true,oci-mediatypes=true"
"""Instances unpack zstd layers faster than gzip. `force` compresses those of the base image again, too."""

_BUILDER = "docker buildx create --use --bootstrap || docker buildx use default"
"""Docker's own builder has gzip layers only, unless Docker keeps its images in containerd. It is used where
BuildKit's image cannot be pulled: the image is then slower to unpack, but it is built."""

_NO_ARTIFACTS = "The key would encrypt artifacts, which these builds do not have."
_FETCH = 'aws s3 cp --only-show-errors "s3://$SOURCE" source.zip'
_SOURCES = [
    # The role names the asset, and IAM takes some seconds to apply a changed policy everywhere.
    f"{_FETCH} || {{ sleep 20; {_FETCH}; }}",
    "unzip -q source.zip -d source",
]


class BuildProject(Construct):
    """A CodeBuild project with its role and its log."""

    project: codebuild.CfnProject
    role: iam.Role
    group: logs.LogGroup


class ImageProject(BuildProject):
    """Builds one image."""

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
        self.group = group
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
            queued_timeout_in_minutes=QUEUE_MINUTES,
            logs_config=_log_to(group),
        )
        accept(
            self.project,
            "AwsSolutions-CB3",
            reason="`docker build` needs privileged mode; the machine is discarded after each build.",
        )
        accept(
            self.project,
            "AwsSolutions-CB4",
            reason=_NO_ARTIFACTS,
        )


def _build_spec(recipe: Recipe) -> str:
    arguments = "".join(
        f" --build-arg {shlex.quote(f'{name}={value}')}" for name, value in recipe.arguments.items()
    )
    build = (
        'docker buildx build --provenance=false --tag "$REPOSITORY_URI:$IMAGE_TAG" '
        f"--output {ZSTD_PUSH}{arguments} source"
    )
    commands = [
        *_SOURCES,
        'aws ecr get-login-password | docker login --username AWS --password-stdin "${REPOSITORY_URI%%/*}"',
        _BUILDER,
        # Retry once: registries of base images sometimes fail.
        f"{build} || {{ sleep 30; {build}; }}",
    ]
    return json.dumps({"version": "0.2", "phases": {"build": {"commands": commands}}})


def _build_role(
    scope: Construct, group: logs.LogGroup, repository: ecr.IRepository, source: s3_assets.Asset
) -> iam.Role:
    role = iam.Role(scope, "Role", assumed_by=iam.ServicePrincipal("codebuild.amazonaws.com"))
    let_log(role, group)
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


def let_log(role: iam.Role, group: logs.LogGroup) -> None:
    role.add_to_policy(
        iam.PolicyStatement(
            actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[group.log_group_arn]
        )
    )


class MirrorProject(BuildProject):
    """Copies a model from the Hugging Face Hub to a bucket."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        model: str,
        revision: str | None,
        bucket: s3.IBucket,
        prefix: str,
        token_arn: str | None,
        source: s3_assets.Asset,
        group: logs.LogGroup,
    ) -> None:
        super().__init__(scope, construct_id)
        self.group = group
        self.role = _mirror_role(
            self, bucket=bucket, prefix=prefix, token_arn=token_arn, source=source, group=group
        )
        machine, image = _MACHINES["x86_64"]
        variables = {"MODEL": model, "REVISION": revision or "main"}
        variables["TARGET"] = f"s3://{bucket.bucket_name}/{prefix}"
        environment = [_variable(name, value) for name, value in variables.items()]
        if token_arn:
            environment.append(_variable("HF_TOKEN", token_arn, kind="SECRETS_MANAGER"))
        self.project = codebuild.CfnProject(
            self,
            "Project",
            description="Copies the model from the Hugging Face Hub to S3",
            service_role=self.role.role_arn,
            artifacts=codebuild.CfnProject.ArtifactsProperty(type="NO_ARTIFACTS"),
            environment=codebuild.CfnProject.EnvironmentProperty(
                type=machine,
                image=image,
                compute_type="BUILD_GENERAL1_MEDIUM",
                environment_variables=environment,
            ),
            source=codebuild.CfnProject.SourceProperty(type="NO_SOURCE", build_spec=_mirror_spec()),
            timeout_in_minutes=MIRROR_MINUTES,
            queued_timeout_in_minutes=QUEUE_MINUTES,
            logs_config=_log_to(group),
        )
        accept(self.project, "AwsSolutions-CB4", reason=_NO_ARTIFACTS)


def mirror_source(scope: Construct, construct_id: str) -> s3_assets.Asset:
    """The program that mirrors a model."""
    return s3_assets.Asset(
        scope,
        construct_id,
        path=str(SERVICES / "vllm"),
        exclude=only("engine_start", _MIRROR_REQUIREMENTS),
        ignore_mode=cdk.IgnoreMode.DOCKER,
    )


def _mirror_spec() -> str:
    commands = [
        *_SOURCES,
        "python3 -m venv venv",
        f"venv/bin/pip install --quiet --require-hashes --requirement source/{_MIRROR_REQUIREMENTS}",
        "cd source && ../venv/bin/python -m engine_start.mirror",
    ]
    install = {"runtime-versions": {"python": "3.12"}}
    return json.dumps({"version": "0.2", "phases": {"install": install, "build": {"commands": commands}}})


def _mirror_role(
    scope: Construct,
    *,
    bucket: s3.IBucket,
    prefix: str,
    token_arn: str | None,
    source: s3_assets.Asset,
    group: logs.LogGroup,
) -> iam.Role:
    role = iam.Role(scope, "Role", assumed_by=iam.ServicePrincipal("codebuild.amazonaws.com"))
    let_log(role, group)
    objects = bucket.arn_for_objects(f"{prefix}/*")
    role.add_to_policy(
        iam.PolicyStatement(
            actions=["s3:GetObject"], resources=[source.bucket.arn_for_objects(source.s3_object_key)]
        )
    )
    role.add_to_policy(
        iam.PolicyStatement(
            actions=["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], resources=[objects]
        )
    )
    # Without it, S3 answers 403 for an object that is not there.
    role.add_to_policy(iam.PolicyStatement(actions=["s3:ListBucket"], resources=[bucket.bucket_arn]))
    if token_arn:
        role.add_to_policy(
            iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=[token_arn])
        )
    accept_objects(role, bucket, f"{prefix}/*")
    return role


def _variable(
    name: str, value: str, *, kind: str = "PLAINTEXT"
) -> codebuild.CfnProject.EnvironmentVariableProperty:
    return codebuild.CfnProject.EnvironmentVariableProperty(name=name, value=value, type=kind)


def _log_to(group: logs.LogGroup) -> codebuild.CfnProject.LogsConfigProperty:
    return codebuild.CfnProject.LogsConfigProperty(
        cloud_watch_logs=codebuild.CfnProject.CloudWatchLogsConfigProperty(
            status="ENABLED", group_name=group.log_group_name
        )
    )
