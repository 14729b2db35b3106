"""docker compose as a person types it, in a project of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .bases import ROOT
from .container import Running, until
from .engine import Engine

_UP_SECONDS = 800
# What reaches the compose file from outside; a setting in the tester's own shell must not.
_KEPT = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_BUILDKIT")


class Compose:
    """A project of the repository's compose file.

    Args:
        environment: the variables that the compose file reads.
        overrides: text of a compose file that is merged into the repository's.
    """

    def __init__(
        self, engine: Engine, project: str, environment: Mapping[str, str], overrides: Path | None
    ) -> None:
        self._engine = engine
        self._project = project
        given = {"ORCHESTRATOR_PORT": "0", "WEATHER_SOURCE": "sample", **environment}
        self._environment = {name: engine.environment[name] for name in _KEPT if name in engine.environment}
        self._environment |= given
        self._files = ["--file", str(ROOT / "docker-compose.yml")]
        if overrides:
            self._files += ["--file", str(overrides)]

    def __call__(self, *arguments: str, **environment: str) -> str:
        """Runs `docker compose` with these arguments; a developer's own .env is not read."""
        command = ("compose", *self._files, "--project-name", self._project, "--env-file", os.devnull)
        return Engine(self._engine.host, self._environment | environment, self._engine.private).docker(
            *command, *arguments, seconds=_UP_SECONDS, cwd=ROOT
        )

    def up(self, *services: str, **environment: str) -> None:
        """
        Raises:
            CommandFailed: a container was not healthy in time; holds the containers' logs.
        """
        try:
            self("up", "--build", "--detach", "--wait", *services, **environment)
        except RuntimeError as error:
            raise AssertionError(f"{error}\n{self('logs', '--no-color', '--tail', '200')}") from error

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(self("config", "--format", "json"))
        return config

    @property
    def url(self) -> str:
        """Where the orchestrator is published."""
        return f"http://{self('port', 'orchestrator', '8001').strip()}"

    @property
    def repeats_results(self) -> bool:
        """Whether the engine is the stand-in, whose answers hold what a tool returned."""
        return self._environment.get("ENGINE") == "standin"

    @property
    def network(self) -> str:
        """The name of the network that all services share."""
        return f"{self._project}_default"

    def container(self, service: str) -> Running:
        (identity,) = self("ps", "--all", "--quiet", service).split()
        return Running(self._engine.api.containers.get(identity))

    def exit_statuses(self) -> dict[str, int]:
        """The exit status of each container, once `stop` has ended them."""
        services = self("ps", "--all", "--services").split()
        return {service: self.container(service).state["ExitCode"] for service in services}

    def leftovers(self) -> list[str]:
        """Containers and networks of the project that are still there."""
        label = {"label": f"com.docker.compose.project={self._project}"}
        containers = self._engine.api.containers.list(all=True, filters=dict(label))
        networks = self._engine.api.networks.list(filters=dict(label))
        return [*(str(one.name) for one in containers), *(str(one.name) for one in networks)]


@contextmanager
def compose(
    engine: Engine, project: str, overrides: Path | None = None, **environment: str
) -> Iterator[Compose]:
    """A project, which is removed with its volumes at the end."""
    running = Compose(engine, project, environment, overrides)
    try:
        yield running
    finally:
        running("down", "--volumes", "--timeout", "20")


def crash(engine: Engine, running: Running, image: str) -> None:
    """Kills a container's process as the kernel would; `docker kill` counts as a stop that is wanted."""
    restarts = running.restarts
    kill = f"import os; os.kill({running.state['Pid']}, 9)"
    engine.docker("run", "--rm", "--pid", "host", "--user", "0", "--entrypoint", "python3", image, "-c", kill)
    until(lambda: running.restarts > restarts, f"{running.name} restarted after a crash")
