"""Programs that speak MCP over their standard streams, and those that do not."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.tools.mcp import stdio
from orchestrator.tools.mcp.stdio import StdioTransport
from orchestrator.tools.mcp.wire import JsonObject, McpError, Rejected, Unreachable, request
from tests.support.live import until

ECHO = """
import json, os, sys
print("not a message", flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "exit":
        sys.exit(3)
    if message.get("method") == "long":
        print("x" * 20_000, flush=True)
    if message.get("method") == "bad":
        answer = {"error": {"code": -32602, "message": "bad"}}
    else:
        params = {"progressToken": message["id"]}
        print(json.dumps({"method": "notifications/progress", "params": params}), flush=True)
        print(json.dumps({"method": "notifications/tools/list_changed"}), flush=True)
        answer = {"result": {"pid": os.getpid(), "variables": sorted(os.environ)}}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)
"""


def nothing(_: JsonObject) -> None:
    pass


@pytest.fixture
async def program() -> AsyncIterator[StdioTransport]:
    transport = StdioTransport("echo", [sys.executable, "-c", ECHO], {"TOKEN": "t"})
    yield transport
    await transport.close()


async def ask(program: StdioTransport, number: int, method: str = "x") -> JsonObject:
    async with asyncio.timeout(10):
        return await program.request(request(number, method, {}), {}, nothing)


async def test_program_gets_only_its_own_variables(
    program: StdioTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVICE", "s")
    variables = (await ask(program, 1))["variables"]
    assert "TOKEN" in variables
    assert "SECRET_OF_THE_SERVICE" not in variables


async def test_answers_progress_and_changes_reach_those_who_wait_for_them(program: StdioTransport) -> None:
    changes: list[JsonObject] = []
    progress: list[JsonObject] = []
    program.unasked = changes.append
    answers = await asyncio.gather(ask(program, 1), program.request(request(2, "x", {}), {}, progress.append))
    assert answers[0]["pid"] == answers[1]["pid"]
    assert [message["params"]["progressToken"] for message in progress] == [2]
    assert [message["method"] for message in changes] == ["notifications/tools/list_changed"] * 2
    with pytest.raises(Rejected, match="bad"):
        await ask(program, 3, "bad")


async def test_program_that_ends_is_started_again(program: StdioTransport) -> None:
    first = await ask(program, 1)
    with pytest.raises(McpError, match="the program has ended"):
        await ask(program, 2, "exit")
    assert (await ask(program, 3))["pid"] != first["pid"]


async def test_line_without_an_end_ends_the_program(
    program: StdioTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdio, "MAX_LINE_BYTES", 5000)
    with pytest.raises(McpError, match="a line of more than 5,000 bytes"):
        await ask(program, 1, "long")


async def test_closing_ends_the_program_and_what_it_started(tmp_path: Path) -> None:
    script = f"""
import subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
time.sleep(600)
"""
    transport = StdioTransport("sleeper", [sys.executable, "-c", script], {"PATH": "/usr/bin:/bin"})
    asking = asyncio.create_task(transport.request(request(1, "x", {}), {}, nothing))
    await until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
    child = int((tmp_path / "pid").read_text())
    await transport.close()
    with pytest.raises(McpError, match="the program has ended"):
        await asking
    await until(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


async def test_program_cannot_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    script = """
import sys
for stream in sys.stderr, sys.stdout:
    stream.write("\\n" * 1000 + "x\\n" * 100_000)
"""
    transport = StdioTransport("loud", [sys.executable, "-c", script], {})
    with caplog.at_level("INFO", "orchestrator.mcp"), pytest.raises(McpError, match="has ended"):
        await ask(transport, 1)
    await transport.close()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 101
    assert {"loud: x", "loud: wrote a line that is not a message of MCP"} & set(lines)
    assert lines[-1] == "loud: more than 100 lines in a minute; the others are left out"


async def test_errors_without_a_line_end_do_not_block_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "MAX_LINE_BYTES", 5000)
    script = """
import sys
for line in sys.stdin:
    sys.stderr.write("x" * 1_000_000)
    print('{"id": 1, "result": {}}', flush=True)
"""
    transport = StdioTransport("loud", [sys.executable, "-c", script], {})
    assert await ask(transport, 1) == {}
    await transport.close()


async def test_calls_that_were_given_up_leave_nothing_to_a_program_that_does_not_read() -> None:
    transport = StdioTransport("deaf", [sys.executable, "-c", "import time; time.sleep(600)"], {})
    for number in range(3):
        message = request(number, "x", {"text": "x" * 1_000_000})
        calling = asyncio.create_task(transport.request(message, {}, nothing))
        await until(lambda: bool(transport._waiting))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(calling, 0.2)
    assert transport._process is not None
    assert transport._process.stdin is not None
    assert transport._process.stdin.transport.get_write_buffer_size() < 1_100_000
    await transport.close()


async def test_program_whose_output_stays_open_after_its_end_is_started_again() -> None:
    script = """
import json, os, subprocess, sys
for line in sys.stdin:
    message, child = json.loads(line), None
    if message["method"] == "exit":
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    result = {"pid": os.getpid(), "child": child and child.pid}
    print(json.dumps({"id": message["id"], "result": result}), flush=True)
    if child:
        os._exit(0)
"""
    transport = StdioTransport("parent", [sys.executable, "-c", script], {"PATH": "/usr/bin:/bin"})
    first = await ask(transport, 1, "exit")
    process = transport._process
    assert process is not None
    async with asyncio.timeout(10):
        await process.wait()
    assert (await ask(transport, 2))["pid"] != first["pid"]
    os.kill(first["child"], signal.SIGKILL)
    await until(lambda: process not in transport._programs)
    await transport.close()


async def test_program_that_does_not_exist() -> None:
    transport = StdioTransport("none", ["/nowhere"], {})
    with pytest.raises(Unreachable, match="/nowhere cannot be started: No such file or directory"):
        await ask(transport, 1)
