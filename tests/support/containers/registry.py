"""An image registry in a container, in the place of ECR."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from .container import Running, container, until
from .engine import LABEL, RUN, Engine, state_directory

_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)


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
        asked = self._manifest(repository, tag)
        return asked.headers["Docker-Content-Digest"] if asked.status_code == 200 else None

    def layer_types(self, repository: str, reference: str) -> list[str]:
        """The media types of an image's layers, which name their compression."""
        manifest = self._manifest(repository, reference).raise_for_status().json()
        return [layer["mediaType"] for layer in manifest["layers"]]

    def _manifest(self, repository: str, reference: str) -> httpx.Response:
        url = f"http://{self.address}/v2/{repository}/manifests/{reference}"
        return httpx.get(url, headers={"Accept": _MANIFESTS}, timeout=60)


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


def build_command(
    engine: Engine, image: str, address: str, aws: dict[str, str], *, bases: Sequence[str]
) -> str:
    """The command, as JSON, that runs a build specification as CodeBuild does, and pushes to this registry.

    As there, it has a Docker engine of its own, in a privileged container; `bases` are copied to that engine.
    """
    socket = engine.host.removeprefix("unix://")
    variables = {**aws, "REGISTRY": address, "BASES": " ".join(bases)}
    given = [part for name, value in variables.items() for part in ("--env", f"{name}={value}")]
    command = ["docker", "--host", engine.host, "run", "--rm", "--interactive", "--privileged"]
    command += ["--network", "host", "--volume", f"{socket}:/var/run/outer.sock"]
    command += ["--volume", f"{_data(engine)}:/var/lib/docker", "--label", f"{LABEL}={RUN}", *given, image]
    return json.dumps([*command, "python3", "/opt/appliances/codebuild.py"])


def _data(engine: Engine) -> str:
    """What the engine of builds keeps; not in a container, since an overlay cannot be mounted on another."""
    if engine.private:
        return str(state_directory() / "builds")
    return str(engine.api.volumes.create(f"tandem-builds-{RUN}", labels={LABEL: RUN}).name)
