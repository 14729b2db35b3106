"""Faults seeded in an image: each must make the check that is for it fail."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tests.support.containers import images
from tests.support.containers.bases import VLLM, tagged
from tests.support.containers.container import FAST_HEALTH, container
from tests.support.containers.engine import Engine

from .conftest import MODEL, SERVICES

FAULTY = "tandem-test/faulty"


def rewritten(pattern: str, replacement: str) -> Callable[[Path], None]:
    """Changes the Dockerfile of a build context."""

    def change(context: Path) -> None:
        file = context / "Dockerfile"
        text, changes = re.subn(pattern, replacement, file.read_text())
        assert changes, f"{pattern} does not occur in {file}"
        file.write_text(text)

    return change


@dataclass(frozen=True)
class Fault:
    """A change of a service's build context, and what the check must report."""

    service: Literal["orchestrator", "vllm"]
    name: str
    change: Callable[[Path], None]
    check: Callable[[Engine, str, str, str], None]
    reported: str


def serves(engine: Engine, image: str, network: str, _base: str) -> None:
    with images.serving(engine, image, network) as running:
        running.wait_until_healthy(20)


def serves_a_model(engine: Engine, image: str, _network: str, _base: str) -> None:
    with container(engine, image, environment={"MODEL": MODEL}, healthcheck=FAST_HEALTH) as running:
        running.wait_until_healthy(20)


def runs_as(user: str) -> Callable[[Engine, str, str, str], None]:
    return lambda engine, image, _network, _base: images.runs_as(engine, image, user)


def is_read_only_for_its_user(engine: Engine, image: str, _network: str, _base: str) -> None:
    images.cannot_change(engine, image, "/app", "/venv")


def has_compiled_modules(engine: Engine, image: str, _network: str, _base: str) -> None:
    images.has_compiled_modules(engine, image)


def holds_only_what_it_needs(engine: Engine, image: str, _network: str, base: str) -> None:
    images.holds_only_what_it_needs(engine, image, base, 160)


FAULTS = [
    Fault(
        "orchestrator",
        "a missing file",
        rewritten(r"COPY tools", "RUN rm /app/orchestrator/errors.py\nCOPY tools"),
        serves,
        "No module named",
    ),
    Fault(
        "orchestrator",
        "modules that are not compiled",
        rewritten(r"ARG COMPILE=1", "ARG COMPILE=0"),
        has_compiled_modules,
        "not compiled",
    ),
    Fault(
        "orchestrator",
        "a wrong user",
        rewritten(r"USER 10001:10001", "USER 0:0"),
        runs_as("10001:10001"),
        "0:0",
    ),
    Fault(
        "orchestrator",
        "a health check on a wrong port",
        rewritten(r"or 8001", "or 8002"),
        serves,
        "not within 20 s",
    ),
    Fault(
        "orchestrator",
        "files that the service could change",
        rewritten(r"COPY --from=build /app", "COPY --from=build --chown=10001:10001 /app"),
        is_read_only_for_its_user,
        "writable",
    ),
    Fault(
        "orchestrator",
        "files that the service cannot read",
        rewritten(r"USER 10001:10001", "RUN chmod -R go-rwx /app\nUSER 10001:10001"),
        serves,
        "exited with status 1",
    ),
    Fault(
        "orchestrator",
        "a package cache",
        rewritten(r"USER 10001", "RUN mkdir -p /root/.cache/pip && echo x > /root/.cache/pip/x\nUSER 10001"),
        holds_only_what_it_needs,
        "root/.cache/pip/x",
    ),
    Fault(
        "orchestrator",
        "a secret in a layer that a later layer hides",
        rewritten(
            r"USER 10001",
            "RUN echo hf_abcdefghijklmnopqrstuvwxyz01234567 > /app/token\nRUN rm /app/token\nUSER 10001",
        ),
        holds_only_what_it_needs,
        "a secret in app/token",
    ),
    Fault(
        "vllm",
        "a missing file",
        rewritten(r"launch.py models.yaml", "launch.py"),
        serves_a_model,
        "models.yaml",
    ),
    Fault("vllm", "a wrong user", rewritten(r"USER 2000:0", "USER 0:0"), runs_as("2000:0"), "0:0"),
    Fault(
        "vllm",
        "a user who may not write to the cache",
        rewritten(r"USER 2000:0", "USER 10001:10001"),
        serves_a_model,
        "Permission denied",
    ),
    Fault(
        "vllm",
        "files that the service cannot read",
        rewritten(r"COPY launch.py", "COPY --chmod=0600 launch.py"),
        serves_a_model,
        "Permission denied",
    ),
    Fault(
        "vllm",
        "a health check on a wrong port",
        rewritten(r"or '8000'", "or '8002'"),
        serves_a_model,
        "not within 20 s",
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.service}: {fault.name}")
def test_fault_is_found(
    fault: Fault,
    docker_engine: Engine,
    orchestrator_image: str,
    python_image: str,
    standin_base: str,
    tiers: str,
    tmp_path: Path,
) -> None:
    context = tmp_path / fault.service
    shutil.copytree(SERVICES / fault.service, context, ignore=shutil.ignore_patterns("__pycache__"))
    fault.change(context)
    with tagged(docker_engine, standin_base, VLLM):
        image = docker_engine.build(context, FAULTY)
    with pytest.raises(AssertionError, match=re.escape(fault.reported)):
        fault.check(docker_engine, image, tiers, python_image)


def test_memory_above_the_limit_is_found(docker_engine: Engine, orchestrator_image: str, tiers: str) -> None:
    limits = {"mem_limit": "128m", "memswap_limit": "128m"}
    budget = {"MEMORY_BUDGET_BYTES": str(2**31)}  # more than the container has
    with images.serving(docker_engine, orchestrator_image, tiers, environment=budget, **limits) as running:
        running.wait_until_healthy()
        with pytest.raises(AssertionError, match="ran out of memory"):
            images.stays_within_memory(running, running.url(8001), 2048)


def test_stop_timeout_shorter_than_the_drain_is_found(
    docker_engine: Engine, orchestrator_image: str, tiers: str
) -> None:
    with images.serving(docker_engine, orchestrator_image, tiers) as running:
        running.wait_until_healthy()
        with pytest.raises(AssertionError, match="was cut while the container stopped"):
            images.drains(running, running.url(8001), stop_timeout=1)


def test_host_name_that_the_network_does_not_serve_is_found(
    docker_engine: Engine, orchestrator_image: str, tiers: str
) -> None:
    environment = {"VLLM_URL": "http://engine.internal:8000", "ENGINE_WAIT_SECONDS": "1"}
    with images.serving(docker_engine, orchestrator_image, tiers, environment=environment) as running:
        running.wait_until_healthy()
        with pytest.raises(AssertionError, match="does not resolve"):
            images.reaches_its_engine(running.url(8001))
