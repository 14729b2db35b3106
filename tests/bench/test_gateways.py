"""Which Python the gateways run in, and what is told of the run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.__main__ import machine, versions
from bench.gateways import GATEWAYS, interpreter


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    interpreter.cache_clear()
    yield
    interpreter.cache_clear()


def test_the_interpreter_is_of_the_version_that_the_locks_are_for() -> None:
    _, version = interpreter()
    assert version.split(".")[:2] == [str(part) for part in sys.version_info[:2]]


def test_another_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_PYTHON", sys.executable)
    assert interpreter()[0] == sys.executable
    assert versions([])["python"].endswith("(not the system's)")


def test_what_is_no_python_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_PYTHON", str(tmp_path / "none"))
    with pytest.raises(RuntimeError, match="BENCH_PYTHON"):
        interpreter()


def test_every_version_is_told() -> None:
    told = versions([gateway.name for gateway in GATEWAYS if gateway.name != "nginx"])
    assert set(told) == {gateway.name for gateway in GATEWAYS} - {"nginx", "ours"} | {"python", "machine"}
    assert all(told.values())
    assert "cores" in machine()
