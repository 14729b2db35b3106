"""The container images: their sources, and how a task definition uses them."""

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
TOOLS_FOLDER = "tools"
TOOLS_REQUIREMENTS = "tools-requirements.txt"


def only(*files: str) -> list[str]:
    """The .dockerignore patterns that keep only some files."""
    return ["**", *(f"!{pattern}" for pattern in files), "**/__pycache__", "**/*.pyc", "**/.*"]


Architecture = Literal["x86_64", "arm64"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The sources of an image.

    Attributes:
        service: The directory in `services/` with the Dockerfile.
        files: The files that the build uses; only these affect the image.
        arguments: Build arguments of the Dockerfile.
        compute: The CodeBuild machine type.
        minutes: The time limit of a build.
        context: The directory to build from, if that is not the service's own.
    """

    service: str
    files: tuple[str, ...]
    arguments: Mapping[str, str]
    compute: Literal["BUILD_GENERAL1_SMALL", "BUILD_GENERAL1_LARGE"]
    minutes: int
    context: Path | None = None

    @property
    def directory(self) -> str:
        """The path of the directory with the Dockerfile."""
        return str(self.context or SERVICES / self.service)

    @property
    def ignored(self) -> list[str]:
        """The .dockerignore patterns that keep only `files`."""
        return only(*self.files)

    def tag(self, source_hash: str, architecture: Architecture) -> str:
        """A tag that changes whenever the image's sources change."""
        text = json.dumps([source_hash, architecture, dict(self.arguments)])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


ORCHESTRATOR = Recipe(
    service="orchestrator",
    files=(
        "Dockerfile",
        "requirements.txt",
        "build-requirements.txt",
        TOOLS_REQUIREMENTS,
        "compile.py",
        "orchestrator",
        TOOLS_FOLDER,
    ),
    # The same image as on Docker Hub, from a registry without rate limits for CodeBuild's shared addresses.
    arguments={"PYTHON_IMAGE": "public.ecr.aws/docker/library/python:3.11.14-slim-bookworm"},
    compute="BUILD_GENERAL1_SMALL",
    minutes=20,
)
VLLM = Recipe(
    service="vllm",
    files=("Dockerfile", "launch.py", "engine_start", "models.yaml"),
    arguments={},
    # 128 GB of disk: the base image alone has 29 GB unpacked.
    compute="BUILD_GENERAL1_LARGE",
    minutes=44,
)


@dataclass(frozen=True, slots=True)
class Image:
    """An image for a task definition, and the resources that must exist before it."""

    source: ecs.ContainerImage
    ready: tuple[Construct, ...] = ()

    def before(self, task: ecs.TaskDefinition) -> None:
        """Makes the task definition wait for the image."""
        task.node.find_child("Resource").node.add_dependency(*self.ready)


def local_image(scope: Construct, construct_id: str, *, recipe: Recipe, architecture: Architecture) -> Image:
    """An image that is built by the user's Docker and pushed by the CDK CLI during the deployment."""
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
