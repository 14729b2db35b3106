"""Tandem as separate processes, started once per session: the stand-in engine and several orchestrators."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import openai
import pytest

from tests.clients.support import Client, settle
from tests.support.processes import Processes, Service
from tests.support.proxies import install, proxy

KEY = "sk-a-key-of-these-tests"
NODE_FOLDER = Path(__file__).with_name("node")
_LOCK = NODE_FOLDER / "package-lock.json"
_INSTALLED = NODE_FOLDER / "node_modules" / ".package-lock.json"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows the log of each process that a failed test used."""
    report = yield
    if report.failed:
        for value in item.funcargs.values():
            if isinstance(value, Processes):
                report.sections += [
                    (f"log of {service.name}", service.log[-8000:]) for service in value.services
                ]
    return report


@pytest.fixture(scope="session")
def shared_processes() -> Iterator[Processes]:
    with Processes() as started:
        yield started


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Starts services for a single test."""
    with Processes() as started:
        yield started


@pytest.fixture(scope="session")
def standin(shared_processes: Processes) -> Service:
    return shared_processes.standin(
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--enable-prompt-tokens-details"
    )


@pytest.fixture(scope="session")
def tandem(shared_processes: Processes, standin: Service) -> Service:
    """Tandem as after a user's first start: no keys, sample data."""
    return shared_processes.orchestrator(standin.url)


@pytest.fixture(scope="session")
def strict_tandem(shared_processes: Processes, standin: Service) -> Service:
    """Requires `KEY`, allows one request at a time and bodies up to 4096 bytes, and has a fast heartbeat."""
    return shared_processes.orchestrator(
        standin.url,
        BOOTSTRAP_API_KEY=KEY,
        MAX_IN_FLIGHT="1",
        MAX_BODY_BYTES="4096",
        HEARTBEAT_SECONDS="0.2",
    )


@pytest.fixture(scope="session")
def hurried_tandem(shared_processes: Processes, standin: Service) -> Service:
    """Has a request timeout of 0.3 s."""
    return shared_processes.orchestrator(standin.url, REQUEST_TIMEOUT_SECONDS="0.3")


@pytest.fixture(scope="session")
def behind_haproxy(strict_tandem: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of HAProxy in front of `strict_tandem`."""
    install()
    port = int(strict_tandem.url.rpartition(":")[2])
    with proxy("haproxy", [port], tmp_path_factory.mktemp("proxy")) as its:
        yield f"http://127.0.0.1:{its}"


@pytest.fixture(params=[openai.OpenAI, openai.AsyncOpenAI], ids=["sync", "async"])
async def client(request: pytest.FixtureRequest, tandem: Service) -> AsyncIterator[Client]:
    """The official client with only its base_url changed, and without retries so that errors are visible."""
    made: Client = request.param(base_url=f"{tandem.url}/v1", api_key="dummy", max_retries=0, timeout=20)
    yield made
    await settle(made.close())


@pytest.fixture(scope="session")
def node() -> str:
    """Returns the node program after installing the locked packages."""
    programs = {name: shutil.which(name) for name in ("node", "npm")}
    missing = [name for name, path in programs.items() if path is None]
    assert not missing, f"{' and '.join(missing)} not found: install Node 20 or newer"
    with _locked(NODE_FOLDER):
        if not _INSTALLED.exists() or _INSTALLED.stat().st_mtime < _LOCK.stat().st_mtime:
            done = subprocess.run(
                [str(programs["npm"]), "ci"], cwd=NODE_FOLDER, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"npm ci failed:\n{done.stdout}{done.stderr}"
    return str(programs["node"])


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lets one pytest-xdist worker install into the shared folder while the others wait."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
