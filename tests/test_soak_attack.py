"""A short attack on the orchestrator as a process; `make soak` attacks its container for longer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from examples.tiers import free_port
from tests.soak.attack import attack, settings, wide_database
from tests.soak.servers import PROC
from tests.support.processes import Processes
from tests.support.scripted_engine import scripted_engine


@pytest.mark.timeout(120)
@pytest.mark.skipif(not PROC.exists(), reason="memory is read from /proc")
async def test_memory_stays_within_its_share_whatever_clients_and_engines_send() -> None:
    async with scripted_engine() as engine:
        with wide_database() as directory, Processes() as processes:
            port = free_port()
            environment = settings(engine.url, port, str(directory / "wide.db"))
            budget = {"MEMORY_BUDGET_BYTES": str(512 * 1_048_576)}  # what the task on AWS gives it
            server = processes.orchestrator(**{"VLLM_URL": engine.url, **environment, **budget})

            def peak() -> int:
                status = Path(f"/proc/{server.pid}/status").read_text()
                found = re.search(r"VmHWM:\s+(\d+) kB", status)
                assert found
                return int(found[1]) * 1024

            report = await attack(port, engine, seconds=6, clients=24, seed=3, peak=peak)
            assert report.violations == [], str(report)
            assert len(report.attacks) > 10
            assert "unexpected error" not in server.log
