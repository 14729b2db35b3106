"""What a program that speaks MCP over its standard streams may write: any bytes, any number of lines, and
then nothing more, or its end.

The rules are those of the target `mcp_servers`. Besides, nothing of the program is left when its server is
closed, and what it writes neither floods the log nor keeps the event loop for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from hypothesis import strategies as st

from orchestrator.tools.mcp.stdio import StdioTransport
from tests.fuzz.hostile_mcp import good
from tests.fuzz.rig import CPU_SECONDS, Failure, Rig
from tests.fuzz.target import Case, Target

from .mcp_servers import METHODS, bodies, limited, use_server

_PROGRAM = Path(__file__).parents[1] / "hostile_program.py"
_SECONDS = 12.0
_START_SECONDS = 1.0
_LOG_CHARACTERS = 100_000
_BLOCKED_SECONDS = 0.5
_TICK_SECONDS = 0.05
_FLOODS = (1,) * 12 + (0, 2, 200, 100_000)


class _Logged(logging.Handler):
    """Counts what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.characters = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.characters += len(record.getMessage())


@st.composite
def _answers(draw: st.DrawFn, method: str) -> Case:
    times, errors = draw(st.sampled_from(_FLOODS)), draw(st.sampled_from((0,) * 8 + _FLOODS[-4:]))
    lines = st.sampled_from(("\n", "\n\n", "x\n", "{}\n", "\r\n", "\0\n", "x", '{"method":"ping","id":1}\n'))
    body = draw(lines) if max(times, errors) > 1000 else draw(bodies(method))
    if draw(st.booleans()):
        body = body.replace("\n", " ")
    return {
        "body": body + draw(st.sampled_from(("\n", "\n", "\n", ""))),
        "times": times,
        "errors": errors,
        "end": draw(st.sampled_from(("keep",) * 4 + ("exit", "hang", "deaf", "half"))),
    }


@st.composite
def _cases(draw: st.DrawFn) -> Case:
    chosen = draw(st.lists(st.sampled_from(METHODS), min_size=1, max_size=2, unique=True))
    arguments = draw(st.sampled_from(('{"text": "x"}', "{}", '{"x": 5}')))
    return {"answers": {method: draw(_answers(method)) for method in chosen}, "arguments": arguments}


def check(rig: Rig, case: Case) -> None:
    logged, log = _Logged(), logging.getLogger("orchestrator")
    level = log.level
    log.addHandler(logged)
    log.setLevel(logging.INFO)
    started = time.process_time()
    try:
        rig.run(_ask(case))
    finally:
        log.removeHandler(logged)
        log.setLevel(level)
    used = time.process_time() - started
    if used > CPU_SECONDS:
        raise Failure(f"took {used:.1f} s of CPU; at most {CPU_SECONDS:g} s are allowed")
    if logged.characters > _LOG_CHARACTERS:
        raise Failure(f"{logged.characters} characters were logged; at most {_LOG_CHARACTERS} are allowed")


async def _ask(case: Case) -> None:
    usual = {
        method: {"body": good(method) + "\n", "times": 1, "errors": 0, "end": "keep"} for method in METHODS
    }
    command = [sys.executable, "-I", "-S", str(_PROGRAM), json.dumps({**usual, **case["answers"]})]
    transport = StdioTransport("files", command, {})
    async with limited(_SECONDS), _loop_has_time():
        files = _open_files()
        await use_server(transport, case["arguments"], _START_SECONDS)
        left = _open_files() - files
    if left > 0:
        raise Failure(f"{left} files are left open")


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.asynccontextmanager
async def _loop_has_time() -> AsyncIterator[None]:
    """Checks that the event loop has time for others, by its CPU time between two turns of a task."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(_TICK_SECONDS)
            longest = max(longest, time.thread_time() - before)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
    if longest > _BLOCKED_SECONDS:
        raise Failure(f"the event loop was busy for {longest:.1f} s")


TARGET = Target("mcp_programs", _cases(), check)
