"""Runs the stand-in engine and the orchestrator as separate processes, on free ports of 127.0.0.1."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import orchestrator

MODEL = "Qwen/Qwen2.5-7B-Instruct"
ROOT = Path(__file__).parents[2]
ORCHESTRATOR = Path(orchestrator.__file__ or "").parents[1]
"""Where this process imports it from: the sources, or a compiled copy."""
STANDIN = ROOT / "services" / "vllm" / "standin.py"

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
STANDIN_SERVES = re.compile(r"Serving on http://127\.0\.0\.1:(\d+)")
MCP_SERVES = re.compile(r"serving on port (\d+)")
ORCHESTRATOR_SERVES = re.compile(r'"message":"listening".*"port":(\d+)')


class NotStarted(Exception):
    """A service exited, or did not report in time that it serves. The message contains its log."""


class Service:
    """A process that serves HTTP at `url`. Its output is read immediately and kept in `log`."""

    def __init__(
        self, name: str, command: Sequence[str], environment: dict[str, str], serves: re.Pattern[str]
    ) -> None:
        self.name = name
        self.url = ""
        self._lines: list[str] = []
        self._serves = serves
        self._known = threading.Event()
        # Only the given variables: a key or an address in the developer's environment must not leak in.
        self._process = subprocess.Popen(
            command,
            env={"PATH": os.environ.get("PATH", os.defpath), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"log of {name}")
        self._reader.start()

    @property
    def log(self) -> str:
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status of a service that has ended, None while it runs."""
        return self._process.poll()

    def wait(self) -> None:
        """Waits until the service has printed its port.

        Raises:
            NotStarted: It exited, or took more than 30 s.
        """
        self._known.wait(_START_SECONDS)
        if not self.url:
            self.terminate()
            raise NotStarted(f"{self.name} did not start (status {self.ended()}):\n{self.log}")

    def freeze(self) -> None:
        """Stops the process as a hung one, whose kernel still accepts connections (SIGSTOP)."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Sends SIGTERM without waiting."""
        self._process.terminate()

    def ended(self, seconds: float = _STOP_SECONDS) -> int:
        """Waits for a process that was asked to stop, kills it after that, and returns its exit status."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._reader.join()
        return status

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self._lines.append(line)
                served = self._serves.search(line)
                if served:
                    self.url = f"http://127.0.0.1:{served[1]}"
                    self._known.set()
        self._known.set()


def standin_command(model: str, *arguments: str, port: int = 0) -> list[str]:
    """Returns what starts the stand-in engine, by default on a free port."""
    return [sys.executable, str(STANDIN), model, *arguments, "--host", "127.0.0.1", "--port", str(port)]


class Processes:
    """Starts services, and stops them all at the end of the block."""

    def __init__(self) -> None:
        self.services: list[Service] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for service in self.services:
            service.terminate()
        statuses = {service.name: service.ended() for service in self.services}
        if error is None and any(statuses.values()):
            logs = "\n".join(service.log for service in self.services)
            raise RuntimeError(f"a service exited with a status other than 0: {statuses}\n{logs}")

    def standin(self, *arguments: str, model: str = MODEL, **environment: str) -> Service:
        """Starts the stand-in engine with these additional arguments of `vllm serve`."""
        return self._start("standin", standin_command(model, *arguments), environment, STANDIN_SERVES)

    def orchestrator(self, *engine_urls: str, **environment: str) -> Service:
        """Starts the orchestrator with these variables; PYTHONPATH is extended."""
        path = os.pathsep.join([str(ORCHESTRATOR), *filter(None, [environment.pop("PYTHONPATH", "")])])
        settings = {
            "VLLM_URL": ",".join(engine_urls),
            "HOST": "127.0.0.1",
            "PORT": "0",
            "WEATHER_SOURCE": "sample",
            "DRAIN_SECONDS": "0",
            "STOP_SECONDS": "1",
            **environment,
            "PYTHONPATH": path,
        }
        command = [sys.executable, "-m", "orchestrator"]
        return self._start("orchestrator", command, settings, ORCHESTRATOR_SERVES)

    def mcp_reference(self, port: int = 0) -> Service:
        """Starts the server of the official MCP SDK."""
        command = [sys.executable, "-m", "tests.support.mcp_reference", "http", str(port)]
        return self._start("MCP server", command, {"PYTHONPATH": str(ROOT)}, MCP_SERVES)

    def _start(
        self, name: str, command: Sequence[str], environment: dict[str, str], serves: re.Pattern[str]
    ) -> Service:
        service = Service(f"{name} {len(self.services) + 1}", command, environment, serves)
        service.wait()
        self.services.append(service)
        return service


async def eventually(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Waits until the condition holds.

    Raises:
        AssertionError: It did not hold within `seconds`. The message names `what` was waited for.
    """
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds:g} s for: {what}"
        await asyncio.sleep(0.005)
