"""MCP over the standard streams of a program that the operator configured: one message per line."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence

from ...protocol import dumps
from .wire import JsonObject, McpError, Unreachable, is_answer, parse, result_of

OnMessage = Callable[[JsonObject], None]

log = logging.getLogger("orchestrator.mcp")

MAX_LINE_BYTES = 8_388_608
_STOP_SECONDS = 2.0
_SHOWN_CHARACTERS = 300
_LINES_A_MINUTE = 100
"""How many lines of a program are logged."""
_LINES_A_TURN = 100
"""After that many lines, others get their turn: reading a line that has arrived does not wait."""


class StdioTransport:
    """A program that speaks MCP. It is started by the first message, and again after it has ended.

    Args:
        name: the server's name, for logs.
        command: the program and its arguments, run without a shell.
        environment: all variables of the program, which gets none of this process.
    """

    cancels_by_closing = False
    first_seconds = 30.0  # a program has to start, and perhaps to download itself

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.session_id = ""
        self._name = name
        self._command = command
        self._environment = environment
        self._process: Process | None = None
        self._programs: set[Process] = set()
        self._starting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = _LimitedLog(name)
        self._waiting: dict[int, tuple[asyncio.Future[JsonObject], OnMessage]] = {}
        self.unasked: OnMessage = lambda _: None

    async def request(
        self, message: JsonObject, headers: Mapping[str, str], on_message: OnMessage
    ) -> JsonObject:
        """Sends a request and returns its result. Its progress goes to `on_message`.

        Raises:
            McpError: the program cannot be started, ended, or answered with an error.
        """
        del headers
        number: int = message["id"]
        answer: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (answer, on_message)
        try:
            await self._write(message)
            return result_of(await answer)
        finally:
            self._waiting.pop(number, None)

    async def notify(self, message: JsonObject, headers: Mapping[str, str]) -> None:
        del headers
        if self._process is not None:
            await self._write(message)

    async def listen(self, headers: Mapping[str, str]) -> None:
        """Waits until the program ends, which sends what it likes at any time."""
        del headers
        if self._process is not None:
            await self._process.wait()

    async def end_session(self, headers: Mapping[str, str]) -> None:
        """Does nothing: the session is the program."""

    async def close(self) -> None:
        self._process = None
        for process in list(self._programs):  # the last one, and those that are being stopped
            await _stop(process)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fail("the program has ended")

    async def _write(self, message: JsonObject) -> None:
        async with self._starting:
            process = self._process
            # What a program leaves running may keep its output open, so that its end is not seen there.
            if process is None or process.returncode is not None:
                process = await self._start()
        assert process.stdin is not None
        try:
            # Before the write, so that calls that are given up leave nothing to a program that does not read.
            await process.stdin.drain()
            process.stdin.write(dumps(message) + b"\n")
            await process.stdin.drain()
        except (ConnectionError, RuntimeError):
            raise McpError("the program has ended") from None

    async def _start(self) -> Process:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=self._environment,
                limit=MAX_LINE_BYTES,
                start_new_session=True,
            )
        except OSError as error:
            raise Unreachable(f"{self._command[0]} cannot be started: {error.strerror}") from None
        self._process = process
        self._programs.add(process)
        for work in (self._read(process), self._read_errors(process)):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return process

    async def _read(self, process: Process) -> None:
        reason = "the program has ended"
        assert process.stdout is not None
        try:
            await _pass_lines(process.stdout, self._take)
        except ValueError:  # asyncio's for a line above the limit
            reason = f"the program wrote a line of more than {MAX_LINE_BYTES:,} bytes"
        if self._process is process:
            self._process = None
            self._fail(reason)
        await _stop(process)
        self._programs.discard(process)

    def _take(self, line: bytes) -> None:
        try:
            self._dispatch(parse(line))
        except McpError:
            self._log.line(logging.WARNING, "wrote a line that is not a message of MCP")

    def _fail(self, reason: str) -> None:
        """Ends all requests that wait for an answer."""
        for answer, _ in self._waiting.values():
            if not answer.done():
                answer.set_exception(McpError(reason))

    def _dispatch(self, message: JsonObject) -> None:
        for number, (answer, _) in self._waiting.items():
            if is_answer(message, number) and message.get("id") is not None:
                if not answer.done():
                    answer.set_result(message)
                return
        params = message.get("params")
        token = params.get("progressToken") if isinstance(params, dict) else None
        waiting = self._waiting.get(token) if isinstance(token, int) else None
        (waiting[1] if waiting else self.unasked)(message)

    async def _read_errors(self, process: Process) -> None:
        """Logs what the program writes to its standard error stream."""
        assert process.stderr is not None
        while not process.stderr.at_eof():
            with contextlib.suppress(ValueError):  # a line above the limit
                await _pass_lines(process.stderr, self._take_error)

    def _take_error(self, line: bytes) -> None:
        self._log.line(logging.INFO, line[:_SHOWN_CHARACTERS].decode(errors="replace").rstrip())


class _LimitedLog:
    """Logs lines about a program, which cannot flood the log."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines = 0
        self._since = time.monotonic()

    def line(self, level: int, text: str) -> None:
        now = time.monotonic()
        if now - self._since >= 60:
            self._lines, self._since = 0, now
        self._lines += 1
        if self._lines <= _LINES_A_MINUTE:
            log.log(level, "%s: %s", self._name, text)
        elif self._lines == _LINES_A_MINUTE + 1:
            log.warning(
                "%s: more than %d lines in a minute; the others are left out", self._name, _LINES_A_MINUTE
            )


async def _pass_lines(stream: asyncio.StreamReader, take: Callable[[bytes], None]) -> None:
    """Passes on each line that is not blank.

    Raises:
        ValueError: a line is above the limit.
    """
    for number in itertools.count(1):
        line = await stream.readline()
        if not line:
            return
        if not line.isspace():
            take(line)
        if number % _LINES_A_TURN == 0:
            await asyncio.sleep(0)


async def _stop(process: Process) -> None:
    """Ends a program and the programs that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
                break
    if process.stdin is not None and not process.stdin.is_closing():
        process.stdin.transport.abort()  # what it has not read
