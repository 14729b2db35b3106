"""The official openai package for Node, unchanged but for its baseURL.

The suites in node/ run in Node's own test runner; each of their tests that fails is a failure here. The
version of the package is the newest that runs on Node 20.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import KEY
from tests.clients.support import echo
from tests.support.live import Live
from tests.support.processes import Service
from tests.support.scripted_engine import ScriptedEngine

_FOLDER = Path(__file__).with_name("node")
_LOCK = _FOLDER / "package-lock.json"
_INSTALLED = _FOLDER / "node_modules" / ".package-lock.json"
_NOT_IN_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_SUITES = sorted(path.name for path in _FOLDER.glob("*.test.mjs"))


@pytest.fixture(scope="session")
def node() -> str:
    """The node program, once the locked packages are installed."""
    programs = {name: shutil.which(name) for name in ("node", "npm")}
    missing = [name for name, path in programs.items() if path is None]
    assert not missing, f"{' and '.join(missing)} not found: install Node 20 or newer"
    with _locked(_FOLDER):
        if not _INSTALLED.exists() or _INSTALLED.stat().st_mtime < _LOCK.stat().st_mtime:
            done = subprocess.run(
                [str(programs["npm"]), "ci"], cwd=_FOLDER, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"npm ci failed:\n{done.stdout}{done.stderr}"
    return str(programs["node"])


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Workers of pytest-xdist share the folder: one installs, the others wait."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@pytest.mark.timeout(180)  # so that each test that hangs can be told by its name
@pytest.mark.parametrize("suite", _SUITES)
async def test_node_suite(
    suite: str,
    node: str,
    standin: Service,
    tandem: Service,
    strict_tandem: Service,
    hurried_tandem: Service,
    server: Live,
    engine: ScriptedEngine,
    subtests: pytest.Subtests,
) -> None:
    engine.otherwise = echo
    report = await _run(
        node,
        suite,
        STANDIN_URL=standin.url,
        TANDEM_URL=tandem.url,
        STRICT_URL=strict_tandem.url,
        STRICT_KEY=KEY,
        HURRIED_URL=hurried_tandem.url,
        ECHO_URL=server.url,
    )
    for case in ElementTree.fromstring(report).iter("testcase"):
        with subtests.test(msg=case.attrib["name"]):
            failure = case.find("failure")
            if failure is not None:
                pytest.fail((failure.text or failure.attrib["message"]).strip(), pytrace=False)
            assert case.find("skipped") is None, "skipped"


async def _run(node: str, suite: str, **environment: str) -> str:
    """The JUnit report of one suite."""
    process = await asyncio.create_subprocess_exec(
        node, "--test", "--test-timeout=150000",
        "--test-reporter=junit", "--test-reporter-destination=stdout",
        "--test-reporter=spec", "--test-reporter-destination=stderr", suite,
        cwd=_FOLDER, env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, told = (text.decode(errors="replace") for text in await process.communicate())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert out.rstrip().endswith("</testsuites>"), told
    # A file without tests, that cannot be loaded or takes too long is reported as a test of its own name.
    assert f'name="{_FOLDER / suite}"' not in out, f"{suite} has no tests or did not end well:\n{told}"
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", out)
