"""A whole start: launch.py with the stand-in under the name of vLLM, and S3 as moto serves it."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from engine_start.command_line import build_argv, load_models
from engine_start.location import Location
from engine_start.settings import LaunchError, Settings
from engine_start.start import child_environment

from .stored import BASE, PREFIX, put, remove

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

VLLM = Path(__file__).parents[4] / "services" / "vllm"
GUARD = "engine_start.adapter_routes.AdapterRoutes"


class Launched:
    """A start with an engine's key, and its log."""

    def __init__(self, directory: Path, **environ: str) -> None:
        standin = shlex.join([sys.executable, str(VLLM / "standin.py")])
        (directory / "vllm").write_text(f'#!/bin/sh\nshift\nexec {standin} "$@"\n')
        (directory / "vllm").chmod(0o755)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}"
        self._skipped: list[dict[str, Any]] = []
        own = {
            "PATH": f"{directory}:{os.environ['PATH']}", "HOST": "127.0.0.1", "PORT": str(port),
            "HANG_SECONDS": "0", "VLLM_API_KEY": "current,next",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, str(VLLM / "launch.py")],
            env=dict(os.environ) | own | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, **wanted: str) -> dict[str, Any]:
        """Returns the first entry of the log with these values that was not returned before."""
        assert self.process.stderr
        for entry in self._skipped:
            if wanted.items() <= entry.items():
                self._skipped.remove(entry)
                return entry
        for line in self.process.stderr:
            if line.startswith("{"):
                entry = dict(json.loads(line))
                if wanted.items() <= entry.items():
                    return entry
                self._skipped.append(entry)
        raise AssertionError(f"the log ended without {wanted}")

    def models(self) -> dict[str, str | None]:
        headers = {"Authorization": "Bearer current"}
        listed = httpx.get(f"{self.url}/v1/models", headers=headers, trust_env=False).json()["data"]
        return {one["id"]: one["parent"] for one in listed}


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    started: list[Launched] = []

    def start(**environ: str) -> Launched:
        started.append(Launched(tmp_path, **environ))
        return started[-1]

    yield start
    for one in started:
        one.process.terminate()
        one.process.communicate()


def test_engine_gets_the_adapters_of_the_prefix_while_it_runs(
    launched: Callable[..., Launched], s3: S3Client
) -> None:
    put(s3, "own", prefix=Location("weights", "configured"))
    put(s3, "tone")
    put(s3, "own")
    configured = json.dumps([{"name": "own", "source": "s3://weights/configured/own"}])
    engine = launched(ADAPTERS=configured, ADAPTERS_FROM=str(PREFIX), ADAPTERS_SECONDS="1")
    assert "is also that of the model or of an adapter" in engine.wait_for(state="rejected")["reason"]
    engine.wait_for(adapter="tone", state="loaded")
    assert engine.models() == {BASE: None, "own": BASE, "tone": BASE}
    put(s3, "sql")
    engine.wait_for(adapter="sql", state="loaded")
    remove(s3, "tone")
    engine.wait_for(adapter="tone", state="removed")
    assert engine.models() == {BASE: None, "own": BASE, "sql": BASE}


def test_prefix_that_cannot_be_read_does_not_stop_the_engine(
    launched: Callable[..., Launched], aws: str
) -> None:
    engine = launched(ADAPTERS_FROM="s3://nowhere/tuned")
    reason = engine.wait_for(event="adapter", state="unknown")["reason"]
    assert reason == "ADAPTERS_FROM='s3://nowhere/tuned': the bucket does not exist"
    engine.wait_for(event="engine_start")
    assert engine.models() == {BASE: None}


def test_without_the_setting_nothing_changes() -> None:
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in child_environment(Settings(), {})
    assert "PYTHONPATH" not in child_environment(Settings(), {})
    assert "--middleware" not in build_argv(Settings(), load_models())


def test_vllm_changes_adapters_only_with_the_setting_and_its_guard() -> None:
    given = Settings.from_environment({"ADAPTERS_FROM": "s3://weights/tuned/"})
    assert given.adapters_from == PREFIX
    child = child_environment(given, {"PYTHONPATH": "/own", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0"})
    assert child["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert child["PYTHONPATH"] == f"/own:{VLLM}"
    argv = build_argv(given, load_models())
    at = argv.index("--enable-lora")
    assert argv[at : at + 7] == [
        "--enable-lora", "--max-lora-rank", "16", "--max-loras", "4", "--middleware", GUARD
    ]  # fmt: skip
    module, _, name = GUARD.rpartition(".")
    code = f"import {module}, sys; sys.exit(0 if isinstance({module}.{name}, type) else 1)"
    subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.append({str(VLLM)!r}); {code}"], check=True
    )


@pytest.mark.parametrize("argument", ["--api-server-count=2", "--api_server_count", "-dp"])
def test_several_processes_would_not_all_get_an_adapter(argument: str) -> None:
    given = Settings.from_environment({"ADAPTERS_FROM": "s3://weights/tuned", "EXTRA_ARGS": f"{argument} 2"})
    with pytest.raises(LaunchError, match=r"with ADAPTERS_FROM, one process must answer all requests"):
        build_argv(given, load_models())


@pytest.mark.parametrize(
    ("value", "message"),
    [("tuned", "must look like s3://bucket/prefix"), ("s3:///tuned", "must look like s3://bucket/prefix")],
)
def test_prefix_without_a_bucket(value: str, message: str) -> None:
    with pytest.raises(LaunchError, match=f"ADAPTERS_FROM='{value}': {message}"):
        Settings.from_environment({"ADAPTERS_FROM": value})
