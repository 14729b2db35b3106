"""The container images: what they are built from, and how a task definition gets one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aws_cdk as cdk
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_ecs as ecs
from constructs import Construct

SERVICES = Path(__file__).parents[2] / "services"

Architecture = Literal["x86_64", "arm64"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is built from.

    Attributes:
        service: directory below `services/` that holds the Dockerfile.
        files: what of it the build sees; nothing else changes the image.
        arguments: build arguments of the Dockerfile.
        compute: CodeBuild's machine for it.
        minutes: after which a build is ended.
    """

    service: str
    files: tuple[str, ...]
    arguments: Mapping[str, str]
    compute: Literal["BUILD_GENERAL1_SMALL", "BUILD_GENERAL1_LARGE"]
    minutes: int

    @property
    def directory(self) -> str:
        """Path of the directory with the Dockerfile."""
        return str(SERVICES / self.service)

    @property
    def ignored(self) -> list[str]:
        """Patterns of a .dockerignore that leave `files`."""
        return ["**", *(f"!{pattern}" for pattern in self.files), "**/__pycache__", "**/*.pyc"]

    def tag(self, source_hash: str, architecture: Architecture) -> str:
        """A tag that changes with whatever changes the image."""
        text = json.dumps([source_hash, architecture, dict(self.arguments)])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


ORCHESTRATOR = Recipe(
    service="orchestrator",
    files=("Dockerfile", "requirements.txt", "orchestrator"),
    # The same image as Docker Hub's, from a registry that does not limit the addresses that CodeBuild shares.
    arguments={"PYTHON_IMAGE": "public.ecr.aws/docker/library/python:3.11.14-slim-bookworm"},
    compute="BUILD_GENERAL1_SMALL",
    minutes=20,
)
VLLM = Recipe(
    service="vllm",
    files=("Dockerfile", "launch.py", "watchdog.py", "models.yaml"),
    arguments={},
    # 128 GB of disk: the base image alone has 29 GB unpacked.
    compute="BUILD_GENERAL1_LARGE",
    minutes=50,
)


@dataclass(frozen=True, slots=True)
class Image:
    """An image for a task definition, and what must be there before that."""

    source: ecs.ContainerImage
    ready: tuple[Construct, ...] = ()

    def before(self, task: ecs.TaskDefinition) -> None:
        """Lets the task definition wait for the image."""
        task.node.find_child("Resource").node.add_dependency(*self.ready)


def local_image(scope: Construct, construct_id: str, *, recipe: Recipe, architecture: Architecture) -> Image:
    """An image that the user's own Docker builds, and that the CDK CLI pushes while deploying."""
    arm = architecture == "arm64"
    asset = ecr_assets.DockerImageAsset(
        scope,
        construct_id,
        directory=recipe.directory,
        exclude=recipe.ignored,
        ignore_mode=cdk.IgnoreMode.DOCKER,
        build_args=dict(recipe.arguments),
        platform=ecr_assets.Platform.LINUX_ARM64 if arm else ecr_assets.Platform.LINUX_AMD64,
    )
    return Image(ecs.ContainerImage.from_docker_image_asset(asset))
