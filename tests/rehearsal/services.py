"""The deployed services as containers: an engine, three orchestrators, and the load balancer before them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

import launch
from tests.e2e.engine.serve import MODEL as TINY_MODEL
from tests.support.containers.container import Running, network
from tests.support.containers.engine import Engine
from tests.support.containers.load_balancer import Listener, LoadBalancer, load_balancer
from tests.support.containers.registry import Registry

from .emulator import Emulator, aws_credentials
from .forwarder import forwarded
from .hosts import host_directories
from .parts import Parts
from .tasks import Task, can_write_to_mounts, deployed_task, image_of, run

NETWORK = "tandem-rehearsal"
_HEALTHY_SECONDS = 240.0  # the real vLLM loads for up to three minutes on two busy cores
# Answers of the rehearsal take seconds: a target that is not idle by then never will be.
_DEREGISTRATION_SECONDS = 60


class DeploymentFailed(RuntimeError):
    """A service did not reach its steady state, as ECS would report it; what ran before still runs."""


class DeployedServices(Parts):
    """Both services while it is entered.

    Attributes:
        url: base URL of the API, ending in /v1, at the load balancer.
        key: the bootstrap key.
        substitutions: what is otherwise than deployed.
    """

    def __init__(
        self,
        docker: Engine,
        emulator: Emulator,
        *,
        registry: Registry,
        appliances: str,
        engine: str = "standin",
    ) -> None:
        super().__init__()
        self._docker = docker
        self._emulator = emulator
        self._registry = registry
        self._appliances = appliances
        self._engine_kind = engine
        self._hosts = Path()
        self._aws: dict[str, str] = {}
        self._running: list[Running] = []
        self.orchestrators: list[tuple[Task, Running]] = []
        self.substitutions: list[str] = []

    @property
    def has_standin(self) -> bool:
        """Whether the stand-in engine runs, of which there is room for several."""
        return self._engine_kind == "standin"

    @property
    def log(self) -> str:
        return "\n".join(f"{running.name}:\n{running.log[-3000:]}" for running in self._running)

    def _start(self) -> None:
        directory = self._exit.enter_context(tempfile.TemporaryDirectory(prefix="tandem-hosts-"))
        self._hosts = Path(directory)
        self._exit.enter_context(network(self._docker, NETWORK))
        self._exit.enter_context(
            host_directories(self._docker, self._appliances, self._emulator, self._hosts)
        )
        self._exit.callback(self._remove_all)
        aws = self._exit.enter_context(forwarded(self._docker, NETWORK, self._emulator.url))
        self._aws = aws_credentials(aws)
        self.engine = self.start_engine()
        self.balancer: LoadBalancer = self._exit.enter_context(
            load_balancer(self._docker, self._appliances, NETWORK, self._listener())
        )
        self.substitutions.append("HAProxy with a certificate of its own plays the load balancer")
        for _ in range(self.desired_count()):
            self.start_orchestrator(self.orchestrator_task())
        self.substitutions += self.orchestrators[0][0].substitutions
        self.url = f"{self.balancer.url}/v1"
        self.key = self.orchestrators[0][0].environment["BOOTSTRAP_API_KEY"]

    def _remove_all(self) -> None:
        for running in self._running:
            running.remove()

    def _remove(self, running: Running) -> None:
        self._running.remove(running)
        running.remove()

    def start_engine(
        self, change: Callable[[Task], None] | None = None, *, service: str = "EngineService"
    ) -> Running:
        """Starts the task of an engine, as deployed or changed, and returns once it is healthy.

        Raises:
            DeploymentFailed: it is not.
        """
        task = deployed_task(self._emulator, service)
        self._fit_engine(task)
        if "ADAPTERS" in task.environment:
            if "ADAPTERS_FROM" in task.environment:
                task.substitute("ADAPTERS_SECONDS", "1", "so that a later adapter is known soon")
            task.environment |= self._aws | self._emulator.credentials(task.definition["taskRoleArn"])
        if change:
            change(task)
        running = self._run(task)
        try:
            running.wait_until_healthy(_HEALTHY_SECONDS if self._engine_kind == "vllm" else 30)
            can_write_to_mounts(running, task)
        except AssertionError as error:
            raise DeploymentFailed(str(error)) from error
        self.substitutions += [] if change else task.substitutions
        return running

    def remove_engine(self, running: Running) -> None:
        """Ends an engine's task at once."""
        self._remove(running)

    def orchestrator_task(self) -> Task:
        """The orchestrator's task as it is deployed now."""
        task = deployed_task(self._emulator, "OrchestratorService")
        task.environment |= self._aws | self._emulator.credentials(task.definition["taskRoleArn"])
        task.substitutions.append("orchestrator: the AWS API is the emulator's, with the task role's rights")
        task.substitute("WEATHER_SOURCE", "sample", "there is no network")
        task.substitute("KEYS_REFRESH_SECONDS", "1", "so that a new key is known soon")
        task.substitute("DRAIN_SECONDS", "1", "so that a rollout takes less time")
        return task

    def start_orchestrator(self, task: Task) -> Running:
        """Starts a task and registers it with the load balancer.

        Raises:
            DeploymentFailed: it is not healthy there, or its image is missing.
        """
        running = self._run(task)
        try:
            self.balancer.register(running, 60)
        except AssertionError as error:
            self._remove(running)
            raise DeploymentFailed(str(error)) from error
        self.orchestrators.append((task, running))
        return running

    def stop_orchestrator(self, task: Task, running: Running) -> int:
        """Deregisters a task, waits for what it answers, and stops it; returns its exit status."""
        self.balancer.deregister(running)
        self.orchestrators.remove((task, running))
        return running.stop(task.stop_timeout)

    def remove_orchestrator(self, task: Task, running: Running) -> None:
        """Removes a task at once."""
        self.balancer.forget(running)
        self.orchestrators.remove((task, running))
        self._remove(running)

    def address_of(self, running: Running) -> str:
        """Base URL of a task, past the load balancer."""
        return f"http://{running.address(NETWORK)}:{self.orchestrators[0][0].port}"

    def roll_out(self) -> None:
        """Replaces the orchestrators one by one with what is deployed now.

        Raises:
            DeploymentFailed: a new task is not healthy; the old ones go on.
        """
        for old, running in list(self.orchestrators):
            self.start_orchestrator(self.orchestrator_task())
            status = self.stop_orchestrator(old, running)
            if status:
                raise DeploymentFailed(f"a task exited with status {status} when stopped:\n{running.log}")

    def replace_engine(self) -> None:
        """Replaces the engine by what is deployed now, with the gap that one GPU makes.

        Raises:
            DeploymentFailed: the new one is not healthy.
        """
        self.engine.stop(deployed_task(self._emulator, "EngineService").stop_timeout)
        self._remove(self.engine)
        self.engine = self.start_engine()

    @property
    def engine_key(self) -> str:
        """The key that a new engine would accept: the first in the secret."""
        environment = deployed_task(self._emulator, "EngineService").environment
        return environment["VLLM_API_KEY"].partition(",")[0]

    def engine_accepts(self, key: str) -> bool:
        """Whether the running engine accepts the key."""
        url = f"http://{self.engine.address(NETWORK)}:8000/v1/models"
        return httpx.get(url, headers={"authorization": f"Bearer {key}"}, timeout=10).status_code == 200

    def build_request(self, repository: str, *, tag: str) -> tuple[list[str], dict[str, Any]]:
        """The command that runs a build, and the last request to build an image, with another tag."""
        builds = self._emulator.client("codebuild")
        for build in builds.batch_get_builds(ids=builds.list_builds()["ids"])["builds"]:
            variables = {one["name"]: one["value"] for one in build["environment"]["environmentVariables"]}
            if variables["REPOSITORY_URI"].endswith(f"/{repository}"):
                (project,) = builds.batch_get_projects(names=[build["projectName"]])["projects"]
                request = {
                    "buildspec": project["source"]["buildspec"],
                    "variables": variables | {"IMAGE_TAG": tag},
                }
                return json.loads(self._emulator.build), request
        raise LookupError(f"no build of {repository}")

    def layer_types(self) -> set[str]:
        """The media types of the layers of both images, as they were pulled by their digests."""
        found = set()
        for service in ("EngineService", "OrchestratorService"):
            image = image_of(
                self._emulator, self._registry.address, deployed_task(self._emulator, service)
            ).partition("/")[2]
            repository, _, digest = image.partition("@")
            found |= set(self._registry.layer_types(repository, digest))
        return found

    def desired_count(self) -> int:
        scaling = self._emulator.client("application-autoscaling")
        (target,) = scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
        return int(target["MinCapacity"])

    def _run(self, task: Task) -> Running:
        image = image_of(self._emulator, self._registry.address, task)
        self._docker.docker("pull", "--quiet", image)
        running = run(self._docker, task, image, NETWORK, self._hosts)
        self._running.append(running)
        return running

    def _fit_engine(self, task: Task) -> None:
        self.substitutions.append("vllm: no GPU is assigned; Cloud Map's name is Docker's DNS's")
        if self._engine_kind != "vllm":
            self.substitutions.append("vllm: the base of its image is the stand-in engine")
            return
        model = launch.Settings.from_environment(task.environment)
        task.environment.pop("MODEL_REVISION", None)
        for name, value in {
            "SERVED_MODEL_NAME": model.served_model_name or model.model,
            "MODEL": "/model",
            "TOKENIZER": "/model/tokenizer",
            "DTYPE": "float32",
            "MAX_MODEL_LEN": "2048",
            "MAX_NUM_SEQS": "8",
            "TOOL_CALL_PARSER": "hermes",
            "EXTRA_ARGS": "--enforce-eager",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "HF_HUB_OFFLINE": "1",
        }.items():
            task.substitute(name, value, "it runs on a CPU with the tiny model")
        task.definition["volumes"].append({"name": "model", "host": {"sourcePath": "/model"}})
        mount = {"sourceVolume": "model", "containerPath": "/model", "readOnly": True}
        task.container["mountPoints"].append(mount)
        link = self._hosts / "model"
        if not link.is_symlink():
            link.symlink_to(TINY_MODEL)

    def _listener(self) -> Listener:
        """What the load balancer is configured with, as the emulator describes it."""
        elb = self._emulator.client("elbv2")
        (group,) = elb.describe_target_groups()["TargetGroups"]
        (balancer,) = elb.describe_load_balancers()["LoadBalancers"]
        attributes = _attributes(
            elb.describe_load_balancer_attributes(LoadBalancerArn=balancer["LoadBalancerArn"]),
            elb.describe_target_group_attributes(TargetGroupArn=group["TargetGroupArn"]),
        )
        delay = int(attributes["deregistration_delay.timeout_seconds"])
        self.substitutions += [
            f"load balancer: targets are checked every second instead of every"
            f" {group['HealthCheckIntervalSeconds']} s, and drain for {_DEREGISTRATION_SECONDS} s"
            f" at most instead of {delay} s"
        ]
        return Listener(
            port=group["Port"],
            domain=self._domain(elb, balancer["LoadBalancerArn"]),
            paths=_public_paths(elb, balancer["LoadBalancerArn"]),
            health_check_path=group["HealthCheckPath"],
            interval_seconds=1,
            healthy_threshold=group["HealthyThresholdCount"],
            unhealthy_threshold=group["UnhealthyThresholdCount"],
            idle_timeout_seconds=int(attributes["idle_timeout.timeout_seconds"]),
            deregistration_delay_seconds=min(delay, _DEREGISTRATION_SECONDS),
        )

    def _domain(self, elb: Any, balancer: str) -> str:
        """The name that the certificate of the HTTPS listener is for."""
        listeners = elb.describe_listeners(LoadBalancerArn=balancer)["Listeners"]
        arn = next(one["Certificates"][0]["CertificateArn"] for one in listeners if one["Port"] == 443)
        certificate = self._emulator.client("acm").describe_certificate(CertificateArn=arn)["Certificate"]
        return str(certificate["DomainName"])

    @property
    def trusted(self) -> dict[str, str]:
        """The environment of clients that trust the load balancer's certificate."""
        path = str(self.balancer.certificate_authority)
        return {"SSL_CERT_FILE": path, "CURL_CA_BUNDLE": path}

    def engine_port_is_the_orchestrators(self) -> None:
        """The port of VLLM_URL is the one that the engine listens on."""
        deployed = self.orchestrators[0][0].environment["VLLM_URL"]
        port = deployed_task(self._emulator, "EngineService").port
        assert urlsplit(deployed).port == port, f"{deployed} does not lead to port {port}"


def _attributes(*described: Any) -> dict[str, str]:
    return {one["Key"]: one["Value"] for answer in described for one in answer["Attributes"]}


def _public_paths(elb: Any, balancer: str) -> tuple[str, ...]:
    """The path patterns that the HTTPS listener forwards."""
    listeners = elb.describe_listeners(LoadBalancerArn=balancer)["Listeners"]
    arn = next(one["ListenerArn"] for one in listeners if one["Port"] == 443)
    rules = elb.describe_rules(ListenerArn=arn)["Rules"]
    forwards = [rule for rule in rules if any(one["Type"] == "forward" for one in rule["Actions"])]
    return tuple(
        path
        for rule in forwards
        for condition in rule["Conditions"]
        for path in condition.get("PathPatternConfig", {}).get("Values") or condition.get("Values", [])
    )
