"""The supervisor: signals and the exit status pass through; an engine that hangs is ended, no other."""

from __future__ import annotations

import contextlib
import json
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
from typing import Any

import httpx
import pytest

VLLM = Path(__file__).parents[4] / "services" / "vllm"
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
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_until_ready(self) -> dict[str, Any]:
        """Reads the log up to the line about the whole start, and returns it."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{") and (entry := json.loads(line))["event"] == "engine_start":
                return dict(entry)
        raise AssertionError("the start did not end")

    @property
    def engine(self) -> int:
        """The process of the engine, a child of launch.py."""
        asked = ["ps", "--ppid", str(self.process.pid), "-o", "pid="]
        (pid,) = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
        return int(pid)

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
        if one.process.poll() is None:
            os.kill(one.engine, signal.SIGKILL)
        one.process.communicate()


def test_hung_engine_is_ended(launched: Callable[..., Launched]) -> None:
    engine = launched()
    engine.wait_until_ready()
    assert engine.chat().status_code == 200
    begun = time.monotonic()
    os.kill(engine.engine, signal.SIGSTOP)
    log, _ = engine.process.communicate(timeout=30)
    assert engine.process.returncode == -signal.SIGKILL
    assert f"no answer from {engine.url}/health" in log
    assert time.monotonic() - begun >= HANG_SECONDS / 2


def test_loading_takes_as_long_as_it_takes(launched: Callable[..., Launched]) -> None:
    engine = launched(STANDIN_LOAD_SECONDS=str(3 * HANG_SECONDS))
    engine.wait_until_ready()
    assert engine.chat().status_code == 200


def test_requests_finish_after_sigterm(launched: Callable[..., Launched]) -> None:
    engine = launched()
    engine.wait_until_ready()
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


def test_zero_turns_the_watchdog_off(launched: Callable[..., Launched]) -> None:
    engine = launched(HANG_SECONDS="0")
    engine.wait_until_ready()
    # Only the main thread and the one that copies the log remain.
    while len(os.listdir(f"/proc/{engine.process.pid}/task")) > 2:
        pass
    assert engine.chat().status_code == 200


def test_start_is_reported_with_its_seconds(launched: Callable[..., Launched]) -> None:
    engine = launched(
        STANDIN_LOAD_SECONDS="1", METRICS_NAMESPACE="Tandem", DEPLOYMENT_NAME="prod", SERVED_MODEL_NAME="chat"
    )
    entry = engine.wait_until_ready()
    assert entry["seconds"]["process"] >= 1
    assert entry["total_seconds"] == entry["EngineStartSeconds"] == sum(entry["seconds"].values())
    assert (entry["Deployment"], entry["Model"]) == ("prod", "chat")
    (declared,) = entry["_aws"]["CloudWatchMetrics"]
    assert declared["Namespace"] == "Tandem"
    assert {"Name": "EngineStartProcessSeconds", "Unit": "Seconds"} in declared["Metrics"]


Fake = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def fake_vllm(tmp_path: Path) -> Iterator[Fake]:
    """Runs launch.py with a script under the name of vLLM."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, **environ: str) -> subprocess.Popen[str]:
        (tmp_path / "vllm").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "vllm").chmod(0o755)
        process = subprocess.Popen(
            [sys.executable, str(VLLM / "launch.py")],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "PORT": str(_free_port())} | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_default_signals,  # noqa: PLW1509 (it only sets signals)
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _default_signals() -> None:
    """Undoes what `nohup` and `&` do: a shell cannot trap a signal that was ignored when it started."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("status", [0, 3])
def test_exit_status_of_the_engine_is_that_of_the_supervisor(fake_vllm: Fake, status: int) -> None:
    assert fake_vllm(f"exit {status}").wait(30) == status


def test_engine_that_a_signal_ended_ends_the_supervisor_likewise(fake_vllm: Fake) -> None:
    assert fake_vllm("kill -SEGV $$").wait(30) == -signal.SIGSEGV


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"])
def test_signals_reach_the_engine_once(fake_vllm: Fake, name: str) -> None:
    script = f"trap 'echo got {name}; exit 7' {name}\necho up\nwhile :; do sleep 0.05; done"
    process = fake_vllm(script)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.Signals[f"SIG{name}"])
    assert process.communicate(timeout=30)[0] == f"got {name}\n"
    assert process.returncode == 7


def test_log_passes_through_unchanged_and_names_the_steps(fake_vllm: Fake) -> None:
    script = "printf 'Starting to load model m...\\n'; printf 'no end'; exit 0"
    process = fake_vllm(script)
    log, report = process.communicate(timeout=30)
    assert log == "Starting to load model m...\nno end"
    assert '{"event":"engine_step","step":"weights"}\n' in report


def test_long_log_does_not_stop_the_engine(fake_vllm: Fake) -> None:
    process = fake_vllm("head -c 3000000 /dev/zero | tr '\\0' x; exit 5")
    log, _ = process.communicate(timeout=30)
    assert log == "x" * 3_000_000
    assert process.returncode == 5


def test_engine_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, str(VLLM / "launch.py")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == "launch.py: vllm: command not found on the PATH"
