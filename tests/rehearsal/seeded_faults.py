"""Faults seeded in what is deployed, each of which has to stop the deployment or fail a check of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.containers import images
from tests.support.containers.container import Running

from .services import DeployedServices, DeploymentFailed
from .tasks import CannotPull, Task


@dataclass(frozen=True)
class Fault:
    """A change of a task, and what has to be reported when it runs."""

    name: str
    seed: Callable[[DeployedServices], None]
    reported: str


def _orchestrator(
    change: Callable[[Task], None], check: Callable[[DeployedServices, Task, Running], None]
) -> Any:
    """Runs a changed orchestrator beside the others, and checks it."""

    def seed(services: DeployedServices) -> None:
        task = services.orchestrator_task()
        change(task)
        running = services.start_orchestrator(task)
        try:
            check(services, task, running)
        finally:
            services.remove_orchestrator(task, running)

    return seed


def _engine(change: Callable[[Task], None]) -> Callable[[DeployedServices], None]:
    def change_beside(task: Task) -> None:
        task.names = []  # the sound engine goes on serving the name
        change(task)

    return lambda services: services.start_engine(change_beside).remove()


def _is_ready(services: DeployedServices, _task: Task, running: Running) -> None:
    images.reaches_its_engine(services.address_of(running))


def _has_its_user(_services: DeployedServices, _task: Task, running: Running) -> None:
    images.runs_as_its_image_says(running)


def _takes_the_bootstrap_key(services: DeployedServices, _task: Task, running: Running) -> None:
    headers = {"authorization": f"Bearer {services.key}"}
    answer = httpx.post(
        f"{services.address_of(running)}/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "Hi"}]},
        headers=headers,
        timeout=60,
    )
    assert answer.status_code == 200, f"status {answer.status_code} with the generated key"


def _drains(services: DeployedServices, task: Task, running: Running) -> None:
    images.drains(running, services.address_of(running), task.stop_timeout, key=services.key)


def _without(variable: str) -> Callable[[Task], None]:
    def change(task: Task) -> None:
        del task.environment[variable]

    return change


def _set_container(**values: Any) -> Callable[[Task], None]:
    return lambda task: task.container.update(values)


def _set_variable(name: str, value: str) -> Callable[[Task], None]:
    return lambda task: task.environment.update({name: value})


def _health_check_on_a_wrong_port(task: Task) -> None:
    check = task.container["healthCheck"]
    check["command"] = [part.replace(":8000/", ":8003/") for part in check["command"]]


def _push_is_missing(services: DeployedServices) -> None:
    """Runs the deployed build specification without its push, for an image of its own."""
    command, request = services.build_request("orchestrator", tag="not-pushed")
    spec = json.loads(request["buildspec"])
    commands = spec["phases"]["build"]["commands"]
    spec["phases"]["build"]["commands"] = [one.replace("push=true", "push=false") for one in commands]
    assert spec["phases"]["build"]["commands"] != commands
    asked = json.dumps(request | {"buildspec": json.dumps(spec)})
    ended = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:]
    task = services.orchestrator_task()
    name = task.container["image"].rpartition(":")[0]
    task.container["image"] = f"{name}:not-pushed"
    services.start_orchestrator(task)


FAULTS = (
    Fault("a build specification that does not push", _push_is_missing, "CannotPullContainerError"),
    Fault(
        "the engine's key is not injected into the orchestrator",
        _orchestrator(_without("VLLM_API_KEY"), _is_ready),
        "/ready answers 503",
    ),
    Fault(
        "the bootstrap key is not injected",
        _orchestrator(_without("BOOTSTRAP_API_KEY"), _takes_the_bootstrap_key),
        "status 401 with the generated key",
    ),
    Fault(
        "a host name that Cloud Map does not serve",
        _orchestrator(_set_variable("VLLM_URL", "http://engine.tandem.internal:8000"), _is_ready),
        "does not resolve",
    ),
    Fault(
        "a stop timeout shorter than the drain",
        _orchestrator(_set_container(stopTimeout=1), _drains),
        "was cut while the container stopped",
    ),
    Fault(
        "less memory than the service needs",
        _orchestrator(_set_container(memory=24), _is_ready),
        "exited with status",
    ),
    Fault(
        "an orchestrator that runs as root",
        _orchestrator(_set_container(user="0:0"), _has_its_user),
        "runs as 0:0 and not as 10001:10001",
    ),
    Fault(
        "an engine whose user may not write to its cache",
        _engine(_set_container(user="10001:10001")),
        "Permission denied",
    ),
    Fault(
        "a health check on a wrong port",
        _engine(_health_check_on_a_wrong_port),
        "not within",
    ),
)


def find(fault: Fault, services: DeployedServices) -> str:
    """Seeds a fault; what was reported.

    Raises:
        AssertionError: nothing was, or something else.
    """
    try:
        fault.seed(services)
    except (AssertionError, DeploymentFailed, CannotPull) as error:
        if fault.reported not in str(error):
            raise AssertionError(f"{fault.name}: reported is {error}") from error
        return fault.reported
    raise AssertionError(f"{fault.name}: nothing was reported")
