"""As many engines as are wanted, each a process of its own: the real vLLM, or the stand-in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.e2e.engine.serve import RealEngine, free_port
from tests.support.processes import STANDIN_SERVES, Service, standin_command

DRAIN_SECONDS = 150.0
"""An engine that has to stop may finish its requests for this long; launch.py gives it 90 s."""


_READY_SECONDS = 600.0
"""Two engines and their users share two cores."""


class Process(Protocol):
    """An engine's process."""

    def start(self) -> None:
        """Returns when the engine answers."""

    def retire(self, seconds: float) -> None:
        """Asks the engine to finish its requests and to end; kills it after this time."""

    def stop(self) -> None:
        """Ends it at once."""


class Standin:
    """The stand-in engine."""

    def __init__(self, port: int, model: str) -> None:
        self._command = standin_command(model, "--shutdown-timeout", "60", port=port)
        self._service: Service | None = None

    def start(self) -> None:
        self._service = Service("standin", self._command, {}, STANDIN_SERVES)
        self._service.wait()

    def retire(self, seconds: float) -> None:
        assert self._service
        self._service.terminate()
        self._service.ended(seconds)
        self._service = None

    def stop(self) -> None:
        if self._service:
            self._service.terminate()
            self._service.ended(0)
            self._service = None


def real_engines(python: Path, folder: Path) -> Callable[[int], Process]:
    """Returns what makes an engine on a port: vLLM with the tiny model."""
    return lambda port: RealEngine(python, folder / f"{port}.log", port=port, ready_seconds=_READY_SECONDS)


@dataclass
class Engine:
    """An engine that is wanted, or finishes its requests.

    Attributes:
        began, ready: when its start began and ended, on the monotonic clock; 0 before.
        stopping, signalled: whether it has to stop, and whether it knows.
    """

    process: Process
    began: float = 0.0
    ready: float = 0.0
    task: asyncio.Task[None] | None = None
    stopping: bool = False
    signalled: bool = False

    @property
    def start_seconds(self) -> float:
        return self.ready - self.began


class Engines:
    """Starts and stops engines, as ECS does.

    Attributes:
        capacity: until it is set, no engine starts, as if AWS had no GPU.
        before_stop: awaited with the port of an engine that has to stop.
        running: the engines by their ports, from the decision to start them to their end.
        starts: all engines that were ever wanted.
    """

    def __init__(self, make: Callable[[int], Process], most: int) -> None:
        self._make = make
        self._stops: list[asyncio.Task[None]] = []
        self.ports = [free_port() for _ in range(most)]
        self.capacity = asyncio.Event()
        self.before_stop: Callable[[int], Awaitable[None]] | None = None
        self.running: dict[int, Engine] = {}
        self.starts: list[Engine] = []

    def resize(self, wanted: int) -> None:
        """Starts or stops engines; the one that was started last stops first."""
        active = [port for port, one in self.running.items() if not one.stopping]
        free = [port for port in self.ports if port not in self.running]
        for port in free[: max(0, wanted - len(active))]:
            engine = Engine(self._make(port), time.monotonic())
            engine.task = asyncio.create_task(self._start(engine))
            self.running[port] = engine
            self.starts.append(engine)
        for port in active[wanted:]:
            engine = self.running[port]
            engine.stopping = True
            stop = asyncio.create_task(self._stop(port, engine))
            self._stops.append(stop)

    async def _start(self, engine: Engine) -> None:
        await self.capacity.wait()
        await asyncio.to_thread(engine.process.start)
        engine.ready = time.monotonic()

    async def _stop(self, port: int, engine: Engine) -> None:
        assert engine.task
        if engine.task.done() or self.capacity.is_set():
            await engine.task
            if self.before_stop:
                await self.before_stop(port)
            engine.signalled = True
            await asyncio.to_thread(engine.process.retire, DRAIN_SECONDS)
        else:
            engine.task.cancel()
        del self.running[port]

    @property
    def settled(self) -> bool:
        """Whether every engine that has to stop knows it; ECS also removes its address at once."""
        return all(one.signalled or not one.stopping for one in self.running.values())

    def check(self) -> None:
        """Raises what went wrong with a start or a stop.

        Raises:
            AssertionError: an engine did not start, or did not stop.
        """
        tasks = [one.task for one in self.starts if one.task] + [*self._stops]
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise AssertionError(f"an engine did not start or stop: {error}") from error

    async def close(self) -> None:
        """Ends all engines."""
        tasks = [*self._stops, *(one.task for one in self.running.values() if one.task)]
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
        for engine in list(self.running.values()):
            await asyncio.to_thread(engine.process.stop)
