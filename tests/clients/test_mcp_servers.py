"""Servers that people use, through chat: git from PyPI, filesystem and everything from npm.

The first speaks the newest version of the protocol, the others the handshake, over streams and over HTTP.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import NODE_FOLDER
from tests.support.live import Live, live, until
from tests.support.proxies import free_port
from tests.support.scripted_engine import ScriptedEngine, call, scripted_engine, whole

PROGRAMS = NODE_FOLDER / "node_modules" / ".bin"


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    async with scripted_engine() as one:
        yield one


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "notes.txt").write_text("buy milk\n")
    subprocess.run(["git", "init", "-q", "-b", "trunk", str(tmp_path)], check=True)
    return tmp_path


async def result(service: Live, engine: ScriptedEngine, name: str, **arguments: Any) -> str:
    """Lets the model call a tool in a chat, and returns what it gets."""
    await until(lambda: name in service.app.tool_names)
    engine.play(whole(calls=[call(name, arguments)]), whole("done"))
    answer = await service.chat(tools=[{"type": "function", "function": {"name": name}}])
    assert answer.json()["choices"][0]["message"]["content"] == "done"
    text: str = engine.requests[-1].json["messages"][-1]["content"]
    return text


def servers(**commands: list[str]) -> dict[str, str]:
    listed = [{"name": name, "command": command} for name, command in commands.items()]
    return {"MCP_SERVERS": json.dumps(listed), "PATH": os.environ["PATH"]}


async def test_programs_from_pypi_and_npm(node: str, engine: ScriptedEngine, repository: Path) -> None:
    commands = {
        "git": [sys.executable, "-m", "mcp_server_git"],
        "files": [node, str(PROGRAMS / "mcp-server-filesystem"), str(repository)],
        "everything": [node, str(PROGRAMS / "mcp-server-everything")],
    }
    async with live(engine.url, **servers(**commands)) as service:
        assert "On branch trunk" in await result(
            service, engine, "git__git_status", repo_path=str(repository)
        )
        read = await result(service, engine, "files__read_text_file", path=str(repository / "notes.txt"))
        assert json.loads(read) == {"content": "buy milk\n"}
        outside = await result(service, engine, "files__read_text_file", path="/etc/passwd")
        assert "Access denied" in json.loads(outside)["error"]
        assert await result(service, engine, "everything__get-sum", a=2, b=3) == "The sum of 2 and 3 is 5."
        weather = await result(service, engine, "everything__get-structured-content", location="Chicago")
        assert set(json.loads(weather)) == {"temperature", "conditions", "humidity"}
        steps = {"duration": 1, "steps": 4}
        slow = await result(service, engine, "everything__trigger-long-running-operation", **steps)
        assert "completed" in slow
        ready = (await service.http.get("/ready")).json()["mcp_servers"]
        assert ready["git"]["version"] == "2026-07-28"
        assert ready["files"]["version"] == ready["everything"]["version"] == "2025-11-25"


async def test_through_responses_and_messages(engine: ScriptedEngine, repository: Path) -> None:
    async with live(engine.url, **servers(git=[sys.executable, "-m", "mcp_server_git"])) as service:
        await until(lambda: "git__git_status" in service.app.tool_names)
        called = call("git__git_status", {"repo_path": str(repository)})
        for request, path in (
            ({"input": "Hi", "tools": [{"type": "mcp", "server_label": "git"}]}, "/v1/responses"),
            (
                {
                    "messages": [{"role": "user", "content": "Hi"}],
                    "max_tokens": 9,
                    "tools": [{"name": "git__git_status"}],
                },
                "/v1/messages",
            ),
        ):
            engine.play(whole(calls=[called]), whole("done"))
            answer = await service.http.post(path, json={"model": "scripted", **request})
            assert answer.status_code == 200, answer.text
            assert "On branch trunk" in engine.requests[-1].json["messages"][-1]["content"]
            shown = answer.json().get("output") or answer.json()["content"]
            [ran] = [item for item in shown if item["type"] in ("mcp_call", "mcp_tool_use")]
            assert ran.get("server_label", ran.get("server_name")) == "git"


async def test_server_with_sessions_restarts(node: str, engine: ScriptedEngine) -> None:
    port = free_port()

    async def start() -> asyncio.subprocess.Process:
        program = str(PROGRAMS / "mcp-server-everything")
        variables = {"PATH": os.environ["PATH"], "PORT": str(port), "HOST": "127.0.0.1"}
        process = await asyncio.create_subprocess_exec(
            node, program, "streamableHttp", env=variables, stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr
        while b"listening on port" not in await process.stderr.readline():
            pass
        return process

    listed = [{"name": "everything", "url": f"http://127.0.0.1:{port}/mcp"}]
    process = await start()
    try:
        async with live(engine.url, MCP_SERVERS=json.dumps(listed)) as service:
            for _ in range(2):
                echoed = await result(service, engine, "everything__echo", message="hi")
                assert echoed == "Echo: hi"
                process.kill()
                await process.wait()
                process = await start()
    finally:
        process.kill()
        await process.wait()
