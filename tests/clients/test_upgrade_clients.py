"""Clients that ask for HTTP/2 by default in a header of each request are served over HTTP/1.1."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from tests.support.live import Live
from tests.support.scripted_engine import ScriptedEngine, stream, text, whole

PACKAGES = {"javac": "openjdk-17-jdk-headless", "curl": "curl"}
JAVA = Path(__file__).with_name("H2cClient.java")
BODY = json.dumps({"messages": [{"role": "user", "content": "x" * 20_000}]})


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """Installs the clients where they are missing and this user may."""
    packages = [package for name, package in PACKAGES.items() if not shutil.which(name)]
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", *packages]):
            subprocess.run(command, capture_output=True, check=False)
    missing = [package for name, package in PACKAGES.items() if not shutil.which(name)]
    if missing:
        pytest.fail(f"the clients are not installed: apt-get install {' '.join(missing)}")


async def output_of(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.timeout(180)  # javac on a busy machine
async def test_client_of_the_jdk_is_served(server: Live, engine: ScriptedEngine) -> None:
    engine.otherwise = whole("served")
    output = await output_of("java", str(JAVA), f"{server.url}/v1/chat/completions", BODY)
    answers = [line.split(" ", 2) for line in output.splitlines()]
    assert [(status, version) for status, version, _ in answers] == [("200", "HTTP_1_1")] * 3
    for _, _, answer in answers:
        assert json.loads(answer)["choices"][0]["message"]["content"] == "served"
    assert [request.body for request in engine.requests] == [BODY.encode()] * 3
    assert "upgrade" not in engine.requests[0].headers


@pytest.mark.parametrize("option", ["--http2", "--http1.1", "--http1.0"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_curl_is_served(server: Live, engine: ScriptedEngine, option: str, streamed: bool) -> None:
    engine.otherwise = stream(*text("served")) if streamed else whole("served")
    body = json.dumps({**json.loads(BODY), "stream": streamed})
    url = f"{server.url}/v1/chat/completions"
    written = "\n%{http_code} over %{http_version}\n"
    one = [option, "--silent", "--show-error", "--write-out", written, "--data", body, url]
    output = await output_of("curl", *one, "--next", *one)
    assert output.count("served") == output.count("200 over 1.1\n") == 2
    assert [request.json["messages"] for request in engine.requests] == [json.loads(BODY)["messages"]] * 2
