"""One Docker engine for all tests of this folder, and the images that ship."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.containers import images
from tests.support.containers.bases import PYTHON, ROOT, VLLM, python_base, standin_engine, tagged
from tests.support.containers.container import Running, container, network
from tests.support.containers.engine import Engine, running_engine

SERVICES = ROOT / "services"
NETWORK = "tandem-test-images"
MODEL = "Qwen/Qwen2.5-7B-Instruct"


_NOTES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def docker_engine(pytestconfig: pytest.Config) -> Iterator[Engine]:
    with running_engine() as engine:
        pytestconfig.stash[_NOTES] = engine.notes
        yield engine


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints which engine ran the tests, and which images stood for others."""
    for note in config.stash.get(_NOTES, []):
        terminalreporter.write_line(f"containers: {note}")


@pytest.fixture(scope="session")
def python_image(docker_engine: Engine) -> str:
    return python_base(docker_engine, PYTHON)


@pytest.fixture(scope="session")
def orchestrator_image(docker_engine: Engine, python_image: str) -> str:
    """The image that services/orchestrator/Dockerfile builds."""
    return docker_engine.build(SERVICES / "orchestrator", "tandem-test/orchestrator")


@pytest.fixture(scope="session")
def standin_base(docker_engine: Engine, python_image: str) -> str:
    return standin_engine(docker_engine)


@pytest.fixture(scope="session")
def engine_image(docker_engine: Engine, standin_base: str) -> str:
    """The image that services/vllm/Dockerfile builds, on the stand-in engine."""
    with tagged(docker_engine, standin_base, VLLM):
        return docker_engine.build(SERVICES / "vllm", "tandem-test/vllm")


@pytest.fixture(scope="session")
def tiers(docker_engine: Engine, engine_image: str) -> Iterator[str]:
    """A network in which the engine is reached at http://vllm:8000; its name."""
    with (
        network(docker_engine, NETWORK) as name,
        container(docker_engine, engine_image, network=name, aliases=["vllm"], environment={"MODEL": MODEL}),
    ):
        yield name


@pytest.fixture
def orchestrator(docker_engine: Engine, orchestrator_image: str, tiers: str) -> Iterator[Running]:
    """The orchestrator with all rights taken away, in front of the stand-in engine."""
    with images.serving(docker_engine, orchestrator_image, tiers) as running:
        running.wait_until_healthy()
        yield running
