"""The official openai package for Node, with only its baseURL changed, and the official SDK of MCP.

The suites in node/ run in Node's own test runner; each failing test there fails here. The openai package is
the newest version that runs on Node 20.
"""

from __future__ import annotations

import asyncio
import os
import re
import xml.etree.ElementTree as ElementTree

import pytest

from tests.clients.conftest import KEY, NODE_FOLDER
from tests.clients.support import echo
from tests.support.live import Live
from tests.support.processes import Service
from tests.support.scripted_engine import ScriptedEngine

_FOLDER = NODE_FOLDER
_NOT_IN_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_SUITES = sorted(path.name for path in _FOLDER.glob("*.test.mjs"))


@pytest.mark.timeout(180)  # long enough for a hanging test to be reported by its name
@pytest.mark.parametrize("suite", _SUITES)
async def test_node_suite(
    suite: str,
    node: str,
    standin: Service,
    tandem: Service,
    strict_tandem: Service,
    hurried_tandem: Service,
    server: Live,
    behind_haproxy: str,
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
        PROXY_URL=behind_haproxy,
    )
    for case in ElementTree.fromstring(report).iter("testcase"):
        with subtests.test(msg=case.attrib["name"]):
            failure = case.find("failure")
            if failure is not None:
                pytest.fail((failure.text or failure.attrib["message"]).strip(), pytrace=False)
            assert case.find("skipped") is None, "skipped"


async def _run(node: str, suite: str, **environment: str) -> str:
    """Runs one suite and returns its JUnit report."""
    process = await asyncio.create_subprocess_exec(
        node, "--test", "--test-timeout=150000",
        "--test-reporter=junit", "--test-reporter-destination=stdout",
        "--test-reporter=spec", "--test-reporter-destination=stderr", suite,
        cwd=_FOLDER, env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, log = (text.decode(errors="replace") for text in await process.communicate())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert out.rstrip().endswith("</testsuites>"), log
    # Node reports a file that has no tests, cannot be loaded or times out as a test named after the file.
    assert f'name="{_FOLDER / suite}"' not in out, f"{suite} has no tests or failed:\n{log}"
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", out)
