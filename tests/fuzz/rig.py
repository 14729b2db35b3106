"""What the fuzzer attacks: an orchestrator in a process of its own, and a scripted engine in a thread."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.support.processes import ROOT, Processes, Service
from tests.support.scripted_engine import EngineRequest, ScriptedEngine

T = TypeVar("T")
Models = Sequence[dict[str, Any]]

KEY = "a-key-that-only-the-fuzzer-knows"
SECONDS = 12.0
HEAD_SECONDS = 1.0
"""Time in which every request must have ended. The longest limit of the orchestrator below is 5 s."""
CPU_SECONDS = 2.0
"""CPU time of the orchestrator that no single case may take."""
RESULT_BYTES = 4096
_SETTINGS = {
    "BOOTSTRAP_API_KEY": KEY,
    "HEAD_TIMEOUT_SECONDS": f"{HEAD_SECONDS:g}",
    "BODY_TIMEOUT_SECONDS": "1",
    "KEEP_ALIVE_SECONDS": "1",
    "REQUEST_TIMEOUT_SECONDS": "5",
    "UNREAD_TIMEOUT_SECONDS": "2",
    "ENGINE_WAIT_SECONDS": "1",
    "MEMORY_BUDGET_BYTES": "67108864",
    "MAX_ANSWER_BYTES": "1048576",
    "MAX_BODY_BYTES": "1048576",
    "TOOL_CALL_PARSER": "hermes",
    "RESCUE": "end_of_turn",
    "TOOL_RESULT_BYTES": str(RESULT_BYTES),
    "TOOL_MODULES": "tests.fuzz.hostile_tools",
}


class Failure(Exception):
    """A case broke a rule. The message says which, and what was seen."""


@dataclass
class Answer:
    """One HTTP answer of the orchestrator. `whole` is false if it ended too early."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")


@dataclass
class Trap:
    """A listener that nobody may connect to. Its address is put into schemas."""

    url: str = ""
    visits: int = 0

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._visit, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/secret"
        return server

    async def _visit(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()


@dataclass
class Rig:
    """Use it as a context manager. Both services have ended after it.

    Attributes:
        engine: the scripted engine; only change it in a coroutine that `run` runs.
        trap: an address that the orchestrator must never fetch.
    """

    engine: ScriptedEngine = field(default_factory=ScriptedEngine)
    trap: Trap = field(default_factory=Trap)
    _models: Models = ()

    def __enter__(self) -> Rig:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fuzzer's engine", daemon=True)
        self._thread.start()
        self._listener = self.run(self.trap.start())
        self.run(self.engine.start())
        self._processes = Processes()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._listener.close()
        self.run(self.engine.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def start(self) -> None:
        models = [{**model, "url": self.engine.url} for model in self._models]
        settings = {**_SETTINGS, "MODELS": json.dumps(models)} if models else _SETTINGS
        self._service = self._processes.orchestrator(self.engine.url, PYTHONPATH=str(ROOT), **settings)
        self.port = int(self._service.url.rsplit(":", 1)[1])

    def serve(self, models: Models) -> None:
        """Starts the orchestrator again if it has other models."""
        if models != self._models:
            self.stop()
            self._models = models
            self.start()

    def stop(self) -> None:
        """Ends the orchestrator, whatever its state."""
        self._service.terminate()
        self._service.ended(10)
        self._processes.services.clear()

    @property
    def service(self) -> Service:
        return self._service

    def run(self, work: Coroutine[Any, Any, T], seconds: float = 60) -> T:
        """Runs a coroutine in the engine's event loop and returns its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    # What the orchestrator's process uses

    def memory_mib(self) -> float:
        status = Path(f"/proc/{self._service.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._service.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def check_alive(self) -> None:
        """Raises Failure if the orchestrator's process has ended."""
        if self._service.exit_status is not None:
            status = self._service.exit_status
            raise Failure(f"the orchestrator exited with status {status}:\n{self._service.log[-3000:]}")

    # Requests

    async def send(self, *parts: bytes, seconds: float = SECONDS) -> list[Answer]:
        """Sends bytes on a connection of its own and returns all answers, when the server has closed it.

        The list is empty if the server closed while parts were still sent: the kernel then discards answers.
        If this process was so slow that the server closed the idle connection, this sends again.

        Raises:
            Failure: the connection was not closed in time, what came back is not HTTP, or nothing came back
                although everything was sent at once.
        """
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**24)
        received = bytearray()
        try:
            async with asyncio.timeout(seconds):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
                idle_seconds = time.monotonic() - began
                while data := await reader.read(65_536):
                    received += data
        except TimeoutError:
            raise Failure(f"no end within {seconds:g} s; received: {bytes(received[-300:])!r}") from None
        except ConnectionError:
            if len(parts) == 1:
                raise Failure(f"the connection was reset; received: {bytes(received[-300:])!r}") from None
            return []
        finally:
            writer.close()
        if not received and len(parts) == 1:
            if idle_seconds < HEAD_SECONDS / 2:
                raise Failure(f"no answer to {parts[0][:300]!r}")
            return await self.send(*parts, seconds=seconds)
        return read_answers(bytes(received))

    async def post(
        self, path: str, body: bytes, *fields: str, content_type: str = "application/json"
    ) -> Answer:
        """Sends one POST request with the key and these fields, and returns its answer."""
        more = "".join(f"{field}\r\n" for field in fields)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
            f"Content-Type: {content_type}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        )
        answers = await self.send(head.encode() + body)
        if len(answers) != 1:
            raise Failure(f"{len(answers)} answers to one request")
        return answers[0]

    async def post_json(self, path: str, payload: Any) -> Answer:
        return await self.post(path, json.dumps(payload).encode())

    def asked(self) -> list[EngineRequest]:
        """Returns the requests that the engine got since the last call."""
        requests, self.engine.requests = self.engine.requests, []
        return requests


def read_answers(data: bytes) -> list[Answer]:
    """Returns the final answers in `data`.

    Raises:
        Failure: it is not a sequence of HTTP answers, each with a valid framing.
    """
    answers: list[Answer] = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        version, _, status = lines[0].partition(" ")
        if version != "HTTP/1.1" or not separator or not status[:3].isdigit():
            raise Failure(f"not an HTTP answer: {head[:200]!r}")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        answer = Answer(int(status[:3]), headers, b"")
        if answer.status == 100:
            continue
        if headers.get("transfer-encoding") == "chunked":
            answer.body, answer.whole, data = _chunked(data)
        elif "content-length" in headers:
            size = int(headers["content-length"])
            answer.body, answer.whole, data = data[:size], len(data) >= size, data[size:]
        else:
            answer.body, data = data, b""
        answers.append(answer)
    return answers


def _chunked(data: bytes) -> tuple[bytes, bool, bytes]:
    body = b""
    while True:
        line, found, rest = data.partition(b"\r\n")
        if not found:
            return body, False, b""
        size = int(line, 16)
        if len(rest) < size + 2:
            return body + rest[:size], False, b""
        body, data = body + rest[:size], rest[size + 2 :]
        if size == 0:
            return body, True, data


def check_error(answer: Answer, expected: frozenset[int] = frozenset()) -> None:
    """Checks an answer with an error status.

    Raises:
        Failure: the status is 500 or above and not expected, or the error does not have OpenAI's shape.
    """
    if answer.status >= 500 and answer.status not in expected:
        raise Failure(f"unexpected status {answer.status}: {answer.body[:300]!r}")
    try:
        error = json.loads(answer.body)["error"]
        shape = set(error)
    except (ValueError, KeyError, TypeError) as problem:
        raise Failure(f"status {answer.status} without an error object: {answer.body[:300]!r}") from problem
    if not {"message", "type", "param", "code"} <= shape or not error["message"]:
        raise Failure(f"the error does not have OpenAI's shape: {answer.body[:300]!r}")


class Meter:
    """Measures the CPU time and the memory that the orchestrator takes for a case."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._cpu = rig.cpu_seconds()
        self._started = time.monotonic()

    def check(self, limit: float = CPU_SECONDS) -> None:
        """Raises Failure if the case took more CPU time than the limit."""
        self._rig.check_alive()
        used = self._rig.cpu_seconds() - self._cpu
        if used > limit:
            elapsed = time.monotonic() - self._started
            raise Failure(f"took {used:.1f} s of CPU in {elapsed:.1f} s; at most {limit:g} s are allowed")
