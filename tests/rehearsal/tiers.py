"""The deployed system run here: both containers as processes, from the deployed task definitions."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import launch
from tests.e2e.engine.serve import RealEngine, free_port
from tests.support.processes import ORCHESTRATOR, ORCHESTRATOR_SERVES, STANDIN, STANDIN_SERVES, Service

from .emulator import ROOT, Emulator

LAUNCH = ROOT / "services" / "vllm" / "launch.py"


@dataclass
class Container:
    """What a task definition says of its one container, with the values of its secrets and its role."""

    name: str
    image: str
    port: int
    environment: dict[str, str]
    role: str
    substitutions: list[str] = field(default_factory=list)

    def substitute(self, name: str, value: str, why: str) -> None:
        """Sets a variable otherwise than deployed, and notes it."""
        before = self.environment.get(name, "not set")
        self.environment[name] = value
        self.substitutions.append(f"{self.name}: {name}={before} becomes {value}, {why}")


def deployed_container(emulator: Emulator, service: str) -> Container:
    """Returns the container of the service whose name contains `service`, from the ECS API."""
    ecs = emulator.ecs
    cluster = ecs.list_clusters()["clusterArns"][0]
    arn = next(arn for arn in ecs.list_services(cluster=cluster)["serviceArns"] if service in arn)
    described = ecs.describe_services(cluster=cluster, services=[arn])["services"][0]
    task = ecs.describe_task_definition(taskDefinition=described["taskDefinition"])["taskDefinition"]
    definition = task["containerDefinitions"][0]
    container = Container(
        definition["name"],
        definition["image"],
        definition["portMappings"][0]["containerPort"],
        {entry["name"]: entry["value"] for entry in definition["environment"]},
        task["taskRoleArn"],
    )
    secrets = emulator.client("secretsmanager", role=task["executionRoleArn"])
    for secret in definition["secrets"]:
        value = secrets.get_secret_value(SecretId=secret["valueFrom"])["SecretString"]
        container.environment[secret["name"]] = value
        container.substitutions.append(f"{container.name}: {secret['name']} from the emulator's secret")
    return container


class DeployedTiers:
    """Both tiers while it is entered.

    Attributes:
        url: base URL of the orchestrator's API, ending in /v1.
        key: the bootstrap key.
        substitutions: what is otherwise than deployed.
    """

    def __init__(self, emulator: Emulator, *, engine: str = "standin") -> None:
        self._emulator = emulator
        self._engine_kind = engine
        self._services: list[Service] = []
        self._real: RealEngine | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="tandem-tiers-")
        self.url = ""
        self.key = ""
        self.substitutions: list[str] = []

    def __enter__(self) -> DeployedTiers:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def log(self) -> str:
        return "\n".join(service.log for service in self._services)

    def _start(self) -> None:
        engine = deployed_container(self._emulator, "EngineService")
        orchestrator = deployed_container(self._emulator, "OrchestratorService")
        engine_url = self._start_real(engine) if self._engine_kind == "vllm" else self._start_standin(engine)
        deployed = orchestrator.environment["VLLM_URL"]
        assert urlsplit(deployed).port == engine.port, f"{deployed} does not lead to port {engine.port}"
        orchestrator.substitute("VLLM_URL", engine_url, "the Cloud Map name")
        orchestrator.substitute("PORT", "0", "a free port")
        orchestrator.substitute("HOST", "127.0.0.1", "this machine only")
        orchestrator.substitute("WEATHER_SOURCE", "sample", "there is no network")
        orchestrator.substitute("KEYS_REFRESH_SECONDS", "1", "so that a new key is known soon")
        orchestrator.substitute("DRAIN_SECONDS", "0", "so that it ends soon")
        self.key = orchestrator.environment["BOOTSTRAP_API_KEY"]
        environment = self._emulator.environment | orchestrator.environment
        environment |= self._emulator.credentials(orchestrator.role)
        environment["PYTHONPATH"] = str(ORCHESTRATOR)
        served = self._serve(
            orchestrator, [sys.executable, "-m", "orchestrator"], environment, ORCHESTRATOR_SERVES
        )
        self.url = f"{served.url}/v1"
        self.substitutions = [*engine.substitutions, *orchestrator.substitutions]

    def _start_standin(self, engine: Container) -> str:
        engine.substitute("PORT", "0", "a free port")
        engine.substitute("HOST", "127.0.0.1", "this machine only")
        printed = engine.environment | {"PORT": str(engine.port)}  # 0 is for the stand-in only
        ended = subprocess.run(
            [sys.executable, LAUNCH, "--print"],
            env={"PATH": os.environ["PATH"], **printed},
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise RuntimeError(f"launch.py refuses the deployed environment: {ended.stderr}")
        program, command, *arguments = shlex.split(ended.stdout)
        arguments[arguments.index("--port") + 1] = "0"
        engine.substitutions.append(
            f"vllm: {program} {command} becomes standin.py, which takes its arguments"
        )
        standin = [sys.executable, str(STANDIN), *arguments]
        return self._serve(engine, standin, engine.environment, STANDIN_SERVES).url

    def _start_real(self, engine: Container) -> str:
        """The real vLLM on the CPU, with the tiny model, and the deployed flags that are not the GPU's."""
        deployed = launch.Settings.from_environment(engine.environment)
        port = free_port()
        self._real = RealEngine(
            ROOT / ".venv-vllm" / "bin" / "python",
            Path(self._directory.name) / "engine.log",
            flags=("--served-model-name", deployed.served_model_name or deployed.model),
            port=port,
            key=engine.environment["VLLM_API_KEY"],
        )
        self._real.start()
        engine.substitutions += [
            f"vllm: the model {deployed.model} becomes the tiny one, of the same name and with its tokenizer",
            f"vllm: {deployed.dtype} becomes float32, the context of {deployed.max_model_len} tokens 2048",
            "vllm: no GPU memory, no parallelism over GPUs, --enforce-eager, 8 sequences: it runs on a CPU",
            f"vllm: port {engine.port} becomes {port}",
        ]
        return self._real.url

    def _serve(
        self, container: Container, command: list[str], environment: dict[str, str], serves: re.Pattern[str]
    ) -> Service:
        service = Service(container.name, command, environment, serves)
        self._services.append(service)
        service.wait()
        return service

    def _stop(self) -> None:
        for service in reversed(self._services):
            service.terminate()
        for service in reversed(self._services):
            service.ended()
        if self._real is not None:
            self._real.stop()
        self._directory.cleanup()
