"""A second model: deployed beside the first, given an adapter, and removed again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import yaml

from tests.e2e.engine.serve import MODEL
from tests.support.containers.container import until

from .emulator import Emulator
from .expectations import same
from .inventory import inventory
from .project import Project
from .services import DeployedServices
from .serving import Serving
from .steps import saw, step

_SMALL = "Qwen/Qwen2.5-0.5B-Instruct"
_SERVICE = "EngineSmallService"
_ADAPTER, _LATER, _BUCKET = "support-tone", "legal", "rehearsal-adapters"
_PREFIX = f"s3://{_BUCKET}/later"
_SECONDS = 30.0
_ASKED = 4
_ADAPTER_FILES = MODEL.parent / "adapter"
_OF_THE_ORCHESTRATOR = {"service Orchestrator", "task definition Orchestrator"}
_GPU_QUOTA = "L-DB2E81BA"


class SeveralModels:
    """The steps with a second model. `deploy` runs `make deploy`."""

    def __init__(
        self, emulator: Emulator, project: Project, serving: Serving, deploy: Callable[[], object]
    ) -> None:
        self._emulator = emulator
        self._project = project
        self._serving = serving
        self._deploy = deploy

    def run(self, services: DeployedServices) -> None:
        """Leaves the deployment and its file as they were."""
        file, before = self._project.deployment_file, inventory(self._emulator)
        self._emulator.set_quotas({_GPU_QUOTA: 8})
        with step("make deploy of a second model: the first one's engines go on"):
            self._release(file, small={"id": _SMALL})
            same(self._changed(before) - self._orchestrators(), set(), "what changed of what was there")
            small = services.start_engine(service=_SERVICE)
            self._serving.roll_out(services)
            same(_listed(services) >= {_SMALL}, True, "whether the second model is listed")
            same(_answering(services, _SMALL), _SMALL, "the model that answers")
        with step("make deploy of an adapter: only its own engines are replaced"):
            self._store_adapter()
            two = inventory(self._emulator)
            configured = {_ADAPTER: f"s3://{_BUCKET}/{_ADAPTER}"}
            self._release(file, small={"id": _SMALL, "adapters": configured, "adapters_from": _PREFIX})
            kept = {name for name in self._changed(two) if " Small" not in name}
            same(kept - self._orchestrators() - self._roles("EngineSmall"), set(), "what else changed")
            services.remove_engine(small)
            small = services.start_engine(service=_SERVICE)
            self._serving.roll_out(services)
            same(_answering(services, _ADAPTER), _ADAPTER, "the adapter that answers")
        with step("make adapters: an adapter comes and goes, and nothing is deployed"):
            self._without_a_release(services)
        with step("make deploy without the second model: nothing is left of it"):
            self._release(file)
            services.remove_engine(small)
            after = inventory(self._emulator)
            same(sorted(after.keys() ^ before.keys()), [f"bucket {_BUCKET}"], "what was added or is gone")
            same(self._changed(before) - self._orchestrators(), set(), "what changed of the first model")
            self._serving.roll_out(services)
            same(_status(services, _SMALL), 404, "the status of a request for it")
        self._forget(file)

    def _without_a_release(self, services: DeployedServices) -> None:
        before = inventory(self._emulator)
        same(_status(services, _LATER), 404, "the status before")
        self._project.ops("adapters", "add", _LATER, f"s3://{_BUCKET}/{_ADAPTER}")
        [listed] = json.loads(self._project.ops("adapters", "list", "--json"))
        same((listed["name"], listed["state"], listed["rank"]), (_LATER, "complete", 8), "what is listed")
        until(lambda: _knowing(services, _LATER) == _ASKED, "all orchestrators to know it", _SECONDS)
        same(_answering(services, _LATER), _LATER, "the adapter that answers")
        self._project.ops("adapters", "remove", _LATER)
        until(lambda: _knowing(services, _LATER) == 0, "no orchestrator to know it", _SECONDS)
        same(_status(services, _LATER), 404, "the status after")
        same(self._changed(before), set(), "what changed")

    def _release(self, file: str, **others: dict[str, Any]) -> None:
        """Deploys the file with its model as the entry `main`, and these others."""
        settings = yaml.safe_load(file)
        main = {**(settings.pop("model", None) or {}), **(settings.pop("gpu", None) or {})}
        settings["models"] = {"main": main, **others}
        self._project.write("tandem.yaml", yaml.safe_dump(settings, sort_keys=False))
        self._deploy()

    def _changed(self, before: dict[str, Any]) -> set[str]:
        """Names of what was there before and is described otherwise now, or is gone."""
        after = inventory(self._emulator)
        return {name for name, described in before.items() if after.get(name) != described}

    def _orchestrators(self) -> set[str]:
        """What of the orchestrator may change with the models: its task, and what it may connect to."""
        ecs = self._emulator.ecs
        groups = set()
        for cluster in ecs.list_clusters()["clusterArns"]:
            arns = [
                arn
                for arn in ecs.list_services(cluster=cluster)["serviceArns"]
                if "OrchestratorService" in arn
            ]
            for service in ecs.describe_services(cluster=cluster, services=arns)["services"] if arns else []:
                network = service["networkConfiguration"]["awsvpcConfiguration"]
                groups |= {f"security group {group}" for group in network["securityGroups"]}
        return _OF_THE_ORCHESTRATOR | groups

    def _roles(self, part: str) -> set[str]:
        roles = self._emulator.client("iam").list_roles()["Roles"]
        return {f"role {one['RoleName']}" for one in roles if part in one["RoleName"]}

    def _store_adapter(self) -> None:
        """Puts the tiny adapter into a bucket, as one of the second model."""
        s3 = self._emulator.client("s3")
        s3.create_bucket(Bucket=_BUCKET)
        config = json.loads((_ADAPTER_FILES / "adapter_config.json").read_text())
        files = {
            "adapter_config.json": json.dumps({**config, "base_model_name_or_path": _SMALL}).encode(),
            "adapter_model.safetensors": (_ADAPTER_FILES / "adapter_model.safetensors").read_bytes(),
        }
        for name, content in files.items():
            s3.put_object(Bucket=_BUCKET, Key=f"{_ADAPTER}/{name}", Body=content)
        saw(f"{len(files)} files are in s3://{_BUCKET}/{_ADAPTER}, which only the engines' role may read")

    def _forget(self, file: str) -> None:
        s3 = self._emulator.client("s3")
        for kept in s3.list_objects_v2(Bucket=_BUCKET).get("Contents", []):
            s3.delete_object(Bucket=_BUCKET, Key=kept["Key"])
        s3.delete_bucket(Bucket=_BUCKET)
        self._emulator.set_quotas({})
        self._project.write("tandem.yaml", file)


def _client(services: DeployedServices) -> httpx.Client:
    headers = {"authorization": f"Bearer {services.key}"}
    return httpx.Client(verify=services.balancer.tls, headers=headers, timeout=60)


def _listed(services: DeployedServices) -> set[str]:
    with _client(services) as client:
        return {one["id"] for one in client.get(f"{services.url}/models").json()["data"]}


def _knowing(services: DeployedServices, name: str) -> int:
    """How many of several requests in a row, which reach all orchestrators, find a name in the list."""
    return sum(name in _listed(services) for _ in range(_ASKED))


def _ask(services: DeployedServices, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    with _client(services) as client:
        return client.post(f"{services.url}/chat/completions", json=body)


def _answering(services: DeployedServices, model: str) -> str:
    answer = _ask(services, model)
    same(answer.status_code, 200, f"the status for {model}")
    saw(f"{model} answers")
    return str(answer.json()["model"])


def _status(services: DeployedServices, model: str) -> int:
    return _ask(services, model).status_code
