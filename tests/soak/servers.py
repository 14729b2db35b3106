"""The processes of the soak: started on their ports, killed, restarted and measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from examples import tiers
from examples.tiers import Tier

PROC = Path("/proc")
SETTINGS = {
    "TOOL_MODULES": "tests.soak.tools",
    "TOOL_TIMEOUT_SECONDS": "60",
    "HEARTBEAT_SECONDS": "0.1",
    "DRAIN_SECONDS": "1",
    "STOP_SECONDS": "30",
}
_SLOTS = 12
"""Concurrent requests of an engine: fewer than there are clients, so that some wait."""


class Server:
    """A process that can be restarted on the same port; each run's log is kept."""

    def __init__(self, name: str, start: Callable[[int], Tier]) -> None:
        self.name = name
        self.port = tiers.free_port()
        self.logs: list[Path] = []
        self._start = start
        self._tier: Tier | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def process_id(self) -> int:
        assert self._tier
        return self._tier.process.pid

    async def start(self) -> None:
        self._tier = await asyncio.to_thread(self._start, self.port)

    async def end(self, number: signal.Signals) -> int:
        """Sends the signal and waits at most 45 s; returns the exit status, negative for a signal."""
        assert self._tier
        tier = self._tier
        tier.process.send_signal(number)
        try:
            status = await asyncio.to_thread(tier.process.wait, 45)
        except subprocess.TimeoutExpired:
            tier.process.kill()
            status = tier.process.wait()
        self._tier = None
        log = tier.log.with_name(f"soak-{self.name}-{self.port}-{len(self.logs) + 1}.log")
        self.logs.append(tier.log.rename(log))
        return status

    def abandon(self) -> None:
        """Stops the process if it runs, whatever the outcome of the soak."""
        if self._tier:
            self._tier.stop()
            self.logs.append(self._tier.log)

    async def metric(self, name: str) -> float:
        """Returns the sum of a metric over its labels."""
        page = await asyncio.to_thread(self._get, "/metrics")
        values = re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", page, re.MULTILINE)
        return sum(map(float, values))

    def handles(self) -> list[str]:
        """Returns the open file handles; TCP connections as two ports and Linux's number for the state."""
        folder = PROC / str(self.process_id)
        rows = [line.split() for line in (folder / "net" / "tcp").read_text().splitlines()[1:]]
        sockets = {
            f"socket:[{row[9]}]": f"{_port(row[1])} to {_port(row[2])}, state {row[3]}" for row in rows
        }
        found = []
        for handle in (folder / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed in the meantime
                link = str(handle.readlink())
                found.append(sockets.get(link, link))
        return sorted(found)

    def resident_mib(self) -> float:
        status = (PROC / str(self.process_id) / "status").read_text()
        (kib,) = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        return int(kib) / 1024

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            text: str = answer.read().decode()
            return text


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def engine(name: str) -> Server:
    def start(port: int) -> Tier:
        command = [*tiers.standin_command(port), "--max-num-seqs", str(_SLOTS)]
        return tiers.start("engine", command, port, "/health")

    return Server(name, start)


def orchestrator(name: str, engines: list[Server]) -> Server:
    path = os.pathsep.join(str(tiers.ROOT / part) for part in ("services/orchestrator", "."))
    settings = {**SETTINGS, "PYTHONPATH": path}
    urls = [server.url for server in engines]
    return Server(name, lambda port: tiers.start_orchestrator(urls, port, settings))


def entries(log: Path) -> Iterator[dict[str, Any]]:
    """Parses an orchestrator's log; a line that is not JSON becomes an entry of level `error`."""
    for line in log.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            yield {"level": "error", "message": line}
