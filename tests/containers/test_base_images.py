"""`make pin-images` and a real registry agree on an image's digest."""

from __future__ import annotations

from ops.base_images import digest_of
from tests.support.containers.bases import appliances
from tests.support.containers.engine import Engine
from tests.support.containers.registry import registry


def test_digest_is_the_one_that_pulls_the_image(docker_engine: Engine, python_image: str) -> None:
    with registry(docker_engine, appliances(docker_engine)) as one:
        name = f"{one.address}/docker/library/python"
        docker_engine.api.images.get(python_image).tag(f"{name}:3.11")
        docker_engine.docker("push", "--quiet", f"{name}:3.11")
        digest = digest_of(f"{name}:3.11")
        assert digest == one.digest("docker/library/python", "3.11")
        docker_engine.docker("pull", "--quiet", f"{name}@{digest}")
