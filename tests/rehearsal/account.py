"""What an account has beside the API that the emulator plays: Docker, base images, and a registry."""

from __future__ import annotations

from pathlib import Path

from infra.images.recipes import ORCHESTRATOR
from tests.support.containers.bases import VLLM, appliances, cpu_engine, python_base, standin_engine, tagged
from tests.support.containers.engine import Engine, running_engine
from tests.support.containers.registry import Registry, build_command, registry

from .emulator import Emulator, aws_credentials
from .parts import Parts
from .services import DeployedServices
from .steps import step


class Account(Parts):
    """Docker and a registry while it is entered; `engine` is standin or vllm."""

    def __init__(self, engine: str) -> None:
        super().__init__()
        self._engine_kind = engine

    def _start(self) -> None:
        with step("Docker, base images and a registry"):
            self._start_docker()

    def _start_docker(self) -> None:
        self.docker: Engine = self._exit.enter_context(running_engine())
        python_base(self.docker)
        python_base(self.docker, ORCHESTRATOR.arguments["PYTHON_IMAGE"])
        base = cpu_engine(self.docker) if self._engine_kind == "vllm" else standin_engine(self.docker)
        self._exit.enter_context(tagged(self.docker, base, VLLM))
        self._appliances = appliances(self.docker)
        self.registry: Registry = self._exit.enter_context(registry(self.docker, self._appliances))
        self._exit.callback(self._remove_images)

    def _remove_images(self) -> None:
        """Removes what builds have pushed: the next rehearsal builds it again, from kept layers."""
        for image in self.docker.api.images.list():
            for tag in image.tags:
                if tag.startswith(f"{self.registry.address}/"):
                    self.docker.api.images.remove(tag, force=True)

    def emulator(self, directory: Path) -> Emulator:
        """An emulator whose builds are run by this account's Docker."""
        emulator = Emulator(directory, registry=self.registry.address)
        aws = aws_credentials(emulator.url)
        emulator.build = build_command(
            self.docker,
            self._appliances,
            self.registry.address,
            aws,
            bases=[ORCHESTRATOR.arguments["PYTHON_IMAGE"], VLLM],
        )
        return emulator

    def services(self, emulator: Emulator) -> DeployedServices:
        """The deployed services, run by this account's Docker."""
        return DeployedServices(
            self.docker,
            emulator,
            registry=self.registry,
            appliances=self._appliances,
            engine=self._engine_kind,
        )
