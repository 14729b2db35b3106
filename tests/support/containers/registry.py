"""An image registry in a container, in the place of ECR."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from .container import Running, container, until
from .engine import Engine

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Registry:
    """A registry that accepts every push.

    Attributes:
        address: host and port, as an image's name begins.
    """

    address: str
    running: Running

    def digest(self, repository: str, tag: str) -> str | None:
        """The digest of a tag; None where nobody has pushed it."""
        asked = httpx.get(
            f"http://{self.address}/v2/{repository}/manifests/{tag}",
            headers={"Accept": _MANIFEST},
            timeout=60,
        )
        return asked.headers["Docker-Content-Digest"] if asked.status_code == 200 else None


@contextmanager
def registry(engine: Engine, image: str) -> Iterator[Registry]:
    """Starts a registry from the appliances' image."""
    command = ["docker-registry", "serve", "/opt/appliances/registry.yml"]
    with container(engine, image, command, publish=[5000]) as running:
        address = running.url(5000).removeprefix("http://")

        def answers() -> bool:
            try:
                return httpx.get(f"http://{address}/v2/", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        until(answers, f"the registry answers:\n{running.log}")
        yield Registry(address, running)


def build_command(engine: Engine, image: str, address: str, aws: dict[str, str]) -> str:
    """The command, as JSON, that runs a build specification with the engine's Docker and this registry."""
    socket = engine.host.removeprefix("unix://")
    variables = {**aws, "REGISTRY": address, "DOCKER_BUILDKIT": "1"}
    given = [part for name, value in variables.items() for part in ("--env", f"{name}={value}")]
    command = ["docker", "--host", engine.host, "run", "--rm", "--interactive", "--network", "host"]
    command += ["--volume", f"{socket}:/var/run/docker.sock", *given, image]
    return json.dumps([*command, "python3", "/opt/appliances/codebuild.py"])
