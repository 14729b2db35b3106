"""The Python that gateways run in, and the versions reported for a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.__main__ import machine, versions
from bench.gateways import GATEWAYS, Running, interpreter
from tests.e2e.engine.serve import free_port


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    interpreter.cache_clear()
    yield
    interpreter.cache_clear()


def test_interpreter_has_the_version_that_the_locks_are_for() -> None:
    _, version = interpreter()
    assert version.split(".")[:2] == [str(part) for part in sys.version_info[:2]]


def test_bench_python_selects_another_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_PYTHON", sys.executable)
    assert interpreter()[0] == sys.executable
    assert versions([])["python"].endswith("(not the system's)")


def test_bench_python_that_is_not_python_is_rejected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_PYTHON", str(tmp_path / "none"))
    with pytest.raises(RuntimeError, match="BENCH_PYTHON"):
        interpreter()


def test_every_version_is_reported() -> None:
    found = versions([gateway.name for gateway in GATEWAYS if gateway.name != "nginx"])
    others = {gateway.name for gateway in GATEWAYS} - {"nginx", "ours", "ours-mcp", "ours-responses"}
    assert set(found) == others | {"python", "machine"}
    assert all(found.values())
    assert "cores" in machine()


def test_gateway_runs_only_while_it_is_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port := free_port())]
    one = Running(command, core=min(os.sched_getaffinity(0)), port=port, environment={}, log=tmp_path / "log")
    try:
        one.wait()
        with one.awake() as spent:
            assert state(one) != "T"
            assert spent() >= 0
        wait_until_stopped(one)
        with pytest.raises(LookupError):
            fail_while_awake(one)
        wait_until_stopped(one)
    finally:
        one.stop()


def fail_while_awake(one: Running) -> None:
    with one.awake():
        raise LookupError


def wait_until_stopped(one: Running) -> None:
    """Polls until the kernel has delivered the signal. The test's timeout bounds the wait."""
    while state(one) != "T":
        pass


def state(one: Running) -> str:
    """Returns the process state; T means stopped (stat in proc(5))."""
    return Path(f"/proc/{one.pids[0]}/stat").read_text().rpartition(")")[2].split()[0]
