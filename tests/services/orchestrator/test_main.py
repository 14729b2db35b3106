"""The process: how it starts, fails to start, and stops."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import resource
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.live import until
from tests.support.processes import ORCHESTRATOR
from tests.support.scripted_engine import ScriptedEngine, after, call, stream, text, whole


class Running:
    def __init__(self, process: Process, port: int, lines: list[dict[str, Any]]) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.lines = lines
        self.http = httpx.AsyncClient(base_url=self.url, timeout=20)

    async def chat(self, **fields: Any) -> httpx.Response:
        payload = {"messages": [{"role": "user", "content": "x"}], **fields}
        return await self.http.post("/v1/chat/completions", json=payload)


def environment(**settings: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ORCHESTRATOR), "HOST": "127.0.0.1", "PORT": "0",
        "WEATHER_SOURCE": "sample", "ENGINE_REFRESH_SECONDS": "0.2", **settings,
    }  # fmt: skip


def said(message: str, lines: list[dict[str, Any]]) -> bool:
    return any(line["message"] == message for line in lines)


async def accepts(server: Running) -> bool:
    try:
        await server.http.get("/health")
    except httpx.TransportError:
        return False
    return True


async def read_log(process: Process, lines: list[dict[str, Any]]) -> None:
    assert process.stdout
    async for line in process.stdout:
        lines.append(json.loads(line))


@contextlib.asynccontextmanager
async def process(**settings: str) -> AsyncIterator[Running]:
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", env=environment(**settings), stdout=PIPE
    )
    lines: list[dict[str, Any]] = []
    reading = asyncio.create_task(read_log(running, lines))
    try:
        await until(lambda: said("listening", lines))
        port = next(line["port"] for line in lines if line["message"] == "listening")
        server = Running(running, port, lines)
        yield server
        await server.http.aclose()
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()
        await reading


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PORT": "99999"}, "PORT='99999' cannot be used: should be less than or equal to 65535"),
        ({"VLLM_URL": "nowhere"}, "VLLM_URL='nowhere' cannot be used: must be a base URL"),
        ({"TOOL_MODULES": "no_such_module"}, "TOOL_MODULES='no_such_module' cannot be used"),
        ({"ATTACH_TOOLS": "no_such_tool"}, "ATTACH_TOOLS='no_such_tool' cannot be used"),
        ({"API_KEYS": "me:plaintext-secret"}, "API_KEYS='<hidden>' cannot be used"),
        ({"DATABASE_URL": "mysql://u:secret@h/d", "DATABASE_TABLES": "t"}, "DATABASE_URL="),
    ],
)
async def test_invalid_setting_prevents_startup(settings: dict[str, str], said: str) -> None:
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", env=environment(**settings), stdout=PIPE, stderr=PIPE
    )
    out, err = await running.communicate()
    assert running.returncode == 2
    assert said in err.decode()
    assert "secret" not in (out + err).decode()
    assert b"Traceback" not in err


TOOLS = """
import asyncio, sys

async def exit_in_a_task() -> str:
    '''Start a task that exits.'''
    asyncio.create_task(leave())
    await asyncio.sleep(0.01)
    return "left"

async def exit_in_a_callback() -> str:
    '''Exit in a callback.'''
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(0.01)
    return "left"

async def leave() -> None:
    raise SystemExit(3)

leave.__module__ = "elsewhere"  # so that it is not a tool
"""


@pytest.mark.parametrize("tool", ["exit_in_a_task", "exit_in_a_callback"])
async def test_tool_that_exits_in_the_background_ends_neither_the_process_nor_other_requests(
    engine: ScriptedEngine, tmp_path: Path, tool: str
) -> None:
    (tmp_path / "exits.py").write_text(TOOLS)
    settings = {"PYTHONPATH": f"{ORCHESTRATOR}:{tmp_path}", "TOOL_MODULES": "exits", "VLLM_URL": engine.url}
    async with process(**settings) as server:
        go_on = asyncio.Event()
        engine.play(stream(*text("slow"), go_on, *text(" end")))
        other = asyncio.create_task(server.chat(stream=True))
        await until(lambda: engine.running == 1)
        for _ in range(3):
            engine.play(whole(calls=[call(tool, {})]), whole("done"))
            answer = await server.chat(tools=[{"type": "function", "function": {"name": tool}}])
            assert answer.json()["choices"][0]["message"]["content"] == "done"
        go_on.set()
        assert " end" in (await other).text
        assert said("a task tried to end the process", server.lines)


async def test_log_that_nobody_reads_stops_no_request(engine: ScriptedEngine) -> None:
    reading, writing = os.pipe()
    settings = environment(VLLM_URL=engine.url, DRAIN_SECONDS="0")
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", env=settings, stdout=writing
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as log:
            line = ""
            while '"listening"' not in line:
                line = await asyncio.to_thread(log.readline)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{json.loads(line)['port']}") as http:
                for _ in range(20):  # 500 bytes per request in the log, and a pipe takes 64 KB
                    names = {"x-request-id": "r" * 128}
                    answers = [http.get("/" + "n" * 2000, headers=names) for _ in range(10)]
                    assert {answer.status_code for answer in await asyncio.gather(*answers)} == {404}
                assert (await http.get("/health")).status_code == 200
            running.terminate()
            assert await asyncio.wait_for(running.wait(), 10) in (0, -signal.SIGTERM)
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def test_unreadable_key_file_prevents_startup(tmp_path: Path) -> None:
    settings = environment(API_KEYS_FILE=str(tmp_path / "missing"))
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", env=settings, stdout=PIPE, stderr=PIPE
    )
    out, err = await running.communicate()
    assert running.returncode not in (0, None)
    assert "API_KEYS_FILE" in (out + err).decode()


async def test_log_consists_of_json_lines_without_secrets(engine: ScriptedEngine) -> None:
    digest = hashlib.sha256(b"a-long-secret-key").hexdigest()
    async with process(VLLM_URL=engine.url, VLLM_API_KEY="engine-secret", API_KEYS=f"me:{digest}") as server:
        engine.play(whole("ok"))
        server.http.headers["authorization"] = "Bearer a-long-secret-key"
        assert (await server.chat()).status_code == 200
        server.process.send_signal(signal.SIGINT)
        await server.process.wait()
    assert server.process.returncode == 0
    log = json.dumps(server.lines)
    assert '"key_name": "me"' in log
    assert "secret" not in log


async def test_server_accepts_for_a_while_after_sigterm_and_finishes_its_requests(
    engine: ScriptedEngine,
) -> None:
    go_on = asyncio.Event()
    async with process(VLLM_URL=engine.url, DRAIN_SECONDS="0.5", STOP_SECONDS="20") as server:
        engine.play(after(go_on, whole("finished")), whole("late but welcome"))
        slow = asyncio.create_task(server.chat())
        await engine.arrived.wait()
        server.process.send_signal(signal.SIGTERM)
        while (answer := await server.http.get("/health")).headers.get("connection") != "close":
            assert answer.status_code == 200
        assert (await server.http.get("/v1/models")).status_code == 200
        late = await server.chat()
        assert (late.status_code, late.headers["connection"]) == (200, "close")
        while await accepts(server):
            pass
        assert server.process.returncode is None
        go_on.set()
        assert (await slow).json()["choices"][0]["message"]["content"] == "finished"
        assert await server.process.wait() == 0


async def test_remaining_streams_get_an_error_event_at_the_end(engine: ScriptedEngine) -> None:
    async with process(VLLM_URL=engine.url, DRAIN_SECONDS="0", STOP_SECONDS="0.4") as server:
        engine.play(stream(*text("It "), asyncio.Event()))
        asking = asyncio.create_task(server.chat(stream=True))
        await engine.arrived.wait()
        server.process.send_signal(signal.SIGTERM)
        received = (await asking).text
        assert await server.process.wait() == 0
    assert '"shutting_down"' in received
    assert "[DONE]" not in received


async def test_second_signal_stops_the_server_at_once(engine: ScriptedEngine) -> None:
    async with process(VLLM_URL=engine.url, DRAIN_SECONDS="60", STOP_SECONDS="110") as server:
        server.process.send_signal(signal.SIGTERM)
        await until(lambda: said("stopping", server.lines))
        server.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(server.process.wait(), 10)


async def test_limit_on_open_files_is_raised_for_max_in_flight(engine: ScriptedEngine) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))  # inherited by the process
    try:
        async with process(VLLM_URL=engine.url, MAX_IN_FLIGHT="300") as server:
            limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert int(line.split()[3]) == 700
