"""watchdog.py: an engine that stops answering is ended; one that loads or shuts down is left alone."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

VLLM = Path(__file__).parents[3] / "services" / "vllm"
HANG_SECONDS = 1


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Launched:
    """An engine that launch.py started: the stand-in under the name of vLLM."""

    def __init__(self, directory: Path, **environ: str) -> None:
        standin = shlex.join([sys.executable, str(VLLM / "standin.py")])
        (directory / "vllm").write_text(f'#!/bin/sh\nshift\nexec {standin} "$@"\n')
        (directory / "vllm").chmod(0o755)
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        environment = {
            "PATH": f"{directory}:{os.environ['PATH']}",
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "HANG_SECONDS": str(HANG_SECONDS),
        }
        self.process = subprocess.Popen(
            [sys.executable, str(VLLM / "launch.py")],
            env=environment | environ,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_loaded(self) -> None:
        while True:
            try:
                httpx.get(f"{self.url}/health", trust_env=False)
            except httpx.ConnectError:
                assert self.process.poll() is None
            else:
                return

    def wait_until_watched(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            if line == "watchdog.py: the engine answers\n":
                return
        raise AssertionError("the watchdog has not seen the engine")

    def running_requests(self) -> float:
        page = httpx.get(f"{self.url}/metrics", trust_env=False).text
        line = next(line for line in page.splitlines() if line.startswith("vllm:num_requests_running{"))
        return float(line.rpartition(" ")[2])

    def chat(self, **standin: float) -> httpx.Response:
        body = {
            "model": "Qwen/Qwen2.5-7B-Instruct",
            "messages": [{"role": "user", "content": "Hello"}],
            "standin": standin,
        }
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=30, trust_env=False)


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    started: list[Launched] = []

    def start(**environ: str) -> Launched:
        started.append(Launched(tmp_path, **environ))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def test_hung_engine_is_ended(launched: Callable[..., Launched]) -> None:
    engine = launched()
    engine.wait_until_watched()
    assert engine.chat().status_code == 200
    begun = time.monotonic()
    engine.process.send_signal(signal.SIGSTOP)
    _, log = engine.process.communicate(timeout=30)
    assert engine.process.returncode == -signal.SIGKILL
    assert f"no answer from {engine.url}/health" in log
    assert time.monotonic() - begun >= HANG_SECONDS / 2


def test_loading_takes_as_long_as_it_takes(launched: Callable[..., Launched]) -> None:
    engine = launched(STANDIN_LOAD_SECONDS=str(3 * HANG_SECONDS))
    engine.wait_until_watched()
    assert engine.chat().status_code == 200


def test_requests_finish_after_sigterm(launched: Callable[..., Launched]) -> None:
    engine = launched()
    engine.wait_until_watched()
    statuses: list[int] = []
    request = threading.Thread(
        target=lambda: statuses.append(engine.chat(delay_first=3 * HANG_SECONDS).status_code)
    )
    request.start()
    while engine.running_requests() == 0:
        pass
    engine.process.terminate()
    request.join(timeout=30)
    engine.process.communicate(timeout=30)
    assert statuses == [200]
    assert engine.process.returncode == 0


def test_zero_turns_it_off(launched: Callable[..., Launched]) -> None:
    engine = launched(HANG_SECONDS="0")
    engine.wait_until_loaded()
    children = subprocess.run(
        ["ps", "--ppid", str(engine.process.pid), "-o", "args="],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "watchdog" not in children.stdout
