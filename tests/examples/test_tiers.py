"""`make up` and `make down`: what they start, and what they stop."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import tiers
from examples.tiers import StartError, free_port


@pytest.fixture
def run_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Both tiers on free ports, with records and logs of their own; stops them afterwards."""
    directory = tiers.ROOT / ".run" / f"test-{os.getpid()}"
    directory.mkdir(parents=True)
    monkeypatch.setattr(tiers, "RUN", directory)
    monkeypatch.setenv("PORT", str(free_port()))
    monkeypatch.setenv("ENGINE_PORT", str(free_port()))
    yield directory
    tiers.down()
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()


def up(directory: Path) -> subprocess.CompletedProcess[str]:
    """`make up` in a process of its own, which leaves the tiers to run."""
    code = (
        "import sys, pathlib; from examples import tiers; "
        "tiers.RUN = pathlib.Path(sys.argv.pop()); tiers.main()"
    )
    command = [sys.executable, "-c", code, "up", str(directory)]
    return subprocess.run(command, cwd=tiers.ROOT, capture_output=True, text=True, check=False)


def is_free(port: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) != 0


def test_ports_are_those_of_the_environment(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = up(run_directory)
    assert ended.returncode == 0, ended.stderr
    port = os.environ["PORT"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready") as answer:
        assert answer.status == 200
    assert f"curl -s http://127.0.0.1:{port}/v1/chat/completions" in ended.stdout
    tiers.down()
    assert is_free(port)
    assert is_free(os.environ["ENGINE_PORT"])
    assert "the engine has stopped" in capsys.readouterr().out
    tiers.down()
    assert "the engine is not running" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["http", "0", "70000", "-1"])
def test_port_that_is_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PORT", value)
    with pytest.raises(StartError, match="from 1 to 65535"):
        tiers.up()


def test_engine_is_stopped_if_the_orchestrator_does_not_start(run_directory: Path) -> None:
    with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))):
        ended = up(run_directory)
        assert ended.returncode == 1
        assert "or choose another with PORT=NUMBER" in ended.stderr
        assert is_free(os.environ["ENGINE_PORT"])
        assert not list(run_directory.glob("*.json"))


def test_second_start_leaves_the_first_alone(run_directory: Path) -> None:
    assert up(run_directory).returncode == 0
    assert "ENGINE_PORT=NUMBER" in up(run_directory).stderr
    with urllib.request.urlopen(f"http://127.0.0.1:{os.environ['PORT']}/ready") as answer:
        assert answer.status == 200
    assert len(list(run_directory.glob("*.json"))) == 2


def test_another_process_with_the_recorded_id_is_left_alone(
    run_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        ended = subprocess.Popen([sys.executable, "-c", "input('')"], stdin=subprocess.PIPE)
        identity = tiers.process_identity(ended.pid)
        ended.communicate(b"\n")
        record = {"pid": other.pid, "identity": identity}
        (run_directory / "engine.json").write_text(json.dumps(record))
        tiers.down()
        assert other.poll() is None
        assert "the engine was not running any more" in capsys.readouterr().out
    finally:
        other.communicate(b"\n")
    assert other.returncode == 0


def test_identity_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tiers._start_time(os.getpid()) == tiers._start_time(os.getpid())
    assert tiers._start_time(os.getpid())
    assert tiers._start_time(2**22 + 1) is None
