"""What users of a deployment that scales see: from none to two engines and back, by the deployed alarms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai

from bench.scaling.resources import Resources
from tests.support.processes import Service

from .expectations import same
from .scaling_account import Scaling
from .scaling_engines import Engine, Engines
from .steps import saw, step

_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Load:
    """How the users ask, which depends on the engine.

    Attributes:
        model: the name of the model.
        tokens: the length of an answer.
        extra: further fields of a request, so that it gets an answer of this length.
        limit_seconds: how long a step may take on this machine.
    """

    model: str
    tokens: int
    extra: dict[str, Any]
    limit_seconds: float


@dataclass
class Users:
    """People who ask again and again, each with a conversation of their own.

    Attributes:
        answered: the number of complete answers.
    """

    client: openai.AsyncOpenAI
    load: Load
    answered: int = 0
    _asking: list[tuple[asyncio.Task[None], asyncio.Event]] = field(default_factory=list)

    def number(self, wanted: int) -> None:
        """Sets how many ask; who leaves still reads the answer to the end."""
        while sum(not left.is_set() for _, left in self._asking) < wanted:
            left = asyncio.Event()
            task = asyncio.create_task(self._ask(len(self._asking), left))
            self._asking.append((task, left))
        active = [left for _, left in self._asking if not left.is_set()]
        for left in active[wanted:]:
            left.set()

    async def gone(self) -> None:
        """Waits for the last answer of those who left, and raises what went wrong with one."""
        for task, left in list(self._asking):
            if left.is_set():
                await task

    def check(self) -> None:
        """Raises what went wrong with an answer."""
        for task, _ in self._asking:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise AssertionError(f"an answer failed: {error}") from error

    async def close(self) -> None:
        await self.leave_at_once()
        await self.client.close()

    async def leave_at_once(self) -> None:
        """Disconnects everybody."""
        for task, left in self._asking:
            left.set()
            task.cancel()
        await asyncio.gather(*(task for task, _ in self._asking), return_exceptions=True)
        self._asking = []

    async def _ask(self, who: int, left: asyncio.Event) -> None:
        while not left.is_set():
            await self._stream(f"I am number {who}. What is 6*7?")
            self.answered += 1

    async def _stream(self, question: str) -> None:
        stream = await self.client.chat.completions.create(
            model=self.load.model,
            messages=[{"role": "user", "content": question}],
            stream=True,
            stream_options={"include_usage": True},
            extra_body=self.load.extra,
        )
        usage = None
        async for chunk in stream:
            usage = chunk.usage or usage
        got = usage.completion_tokens if usage else 0
        assert got == self.load.tokens, f"an answer has {got} of {self.load.tokens} tokens"


class Scenario:
    """The steps, in order."""

    def __init__(self, service: Service, engines: Engines, scaling: Scaling, load: Load) -> None:
        self._service = service
        self._engines = engines
        self._scaling = scaling
        self._load = load
        self._http = httpx.AsyncClient(base_url=service.url, timeout=30)
        client = openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=900)
        self._users = Users(client, load)

    async def all(self, *, slow_start: int) -> None:
        """Runs every step; the first start is delayed by so many seconds of AWS's clock."""
        with step("0 -> 1: a stream is held"):
            await self._wake(delay=slow_start)
        with step("1 -> 2: ten users ask at once"):
            await self._grow()
        with step("2 -> 1: while four users read their streams"):
            await self._shrink()
        with step("1 -> 0: nobody asks"):
            await self._sleep()
        with step("0 -> 1 again"):
            await self._wake(delay=0)
        same(self._scaling.changes, [1, 2, 1, 0, 1], "the numbers of engines that were wanted")

    async def close(self) -> None:
        """Disconnects all clients."""
        await self._users.close()
        await self._http.aclose()

    async def given_up(self) -> None:
        """An engine that never answers is stopped when nobody waits for it any longer."""
        with step("0 -> 1 -> 0: no engine comes up, and the user leaves"):
            await self._sleep()
            self._engines.capacity.clear()
            self._users.number(1)
            await self._until(lambda: self._scaling.desired == 1, "an engine is wanted")
            await self._users.leave_at_once()
            begun = self._scaling.seconds
            await self._until(lambda: not self._scaling.desired, "no engine is wanted any longer")
            saw(f"after {(self._scaling.seconds - begun) / 60:.0f} minutes on AWS's clock")

    async def _wake(self, *, delay: int) -> None:
        await self._until_state("sleeping")
        self._engines.capacity.clear()
        self._users.number(1)
        await self._until(lambda: self._scaling.desired == 1, "an engine is wanted")
        await self._until_state("starting")
        await self._turned_away()
        wanted = self._scaling.seconds
        await self._until(lambda: self._scaling.seconds >= wanted + delay, "the start takes long")
        if delay:
            same(self._scaling.desired, 1, "the number of engines that are wanted after a long start")
            saw(f"no engine for {delay} s on AWS's clock, and one is wanted")
        self._engines.capacity.set()
        before = self._users.answered
        await self._until(lambda: self._users.answered > before, "the held stream is answered")
        await self._until_state("ready")
        saw(f"the engine started in {self._newest.start_seconds:.1f} s, and the held stream was complete")

    async def _turned_away(self) -> None:
        question = {"model": self._load.model, "messages": [{"role": "user", "content": "Hi"}]}
        answer = await self._http.post("/v1/chat/completions", json=question)
        error = answer.json()["error"]
        same((answer.status_code, error["code"]), (503, "engine_starting"), "the answer without a stream")
        saw(f"without a stream: 503, Retry-After: {answer.headers['retry-after']}: {error['message']}")

    async def _grow(self) -> None:
        self._users.number(10)
        await self._until(lambda: self._scaling.desired == 2, "a second engine is wanted")
        await self._until(lambda: self._newest.ready > 0, "the second engine answers")
        await self._until(lambda: len(self._in_flight()) == 2, "both engines answer users")
        saw(f"{self._users.answered} complete answers; both engines answer")

    async def _shrink(self) -> None:
        self._users.number(4)
        busy = asyncio.get_running_loop().create_future()

        async def until_busy(port: int) -> None:
            def streams() -> bool:
                if not busy.done() and (count := self._in_flight().get(port)):
                    busy.set_result(count)
                return busy.done()

            await self._until(streams, "the engine has a stream to finish")

        self._engines.before_stop = until_busy
        await self._until(lambda: self._scaling.desired == 1, "one engine is not wanted any longer")
        answered = self._users.answered
        await self._until(lambda: len(self._engines.running) == 1, "it has ended")
        self._engines.before_stop = None
        await self._until(lambda: self._users.answered > answered + 4, "users go on")
        saw(f"an engine with {busy.result():.0f} streams had to stop; no stream was cut")

    async def _sleep(self) -> None:
        self._users.number(0)
        await self._users.gone()
        await self._until(lambda: not self._scaling.desired and not self._engines.running, "no engine runs")
        await self._until_state("sleeping")
        saw(f"no engine runs; {self._users.answered} answers until now, all of them complete")

    @property
    def _newest(self) -> Engine:
        return self._engines.starts[-1]

    def _in_flight(self) -> dict[int, float]:
        """Returns the requests of each engine that has some, by its port."""
        page = httpx.get(f"{self._service.url}/metrics", timeout=30).text
        lines = [line for line in page.splitlines() if line.startswith("engine_requests_in_flight{")]
        found = {}
        for line in lines:
            port = line.partition('"')[2].partition('"')[0].rpartition(":")[2]
            found[int(port)] = float(line.split()[-1])
        return {port: count for port, count in found.items() if count}

    async def _until_state(self, wanted: str) -> None:
        """Waits until /v1/models says that the model sleeps, starts or is ready."""
        end, state = time.monotonic() + self._load.limit_seconds, ""
        while state != wanted:
            self._check(end, f"the model is {wanted}; it is {state}")
            await asyncio.sleep(_LOOK_SECONDS)
            state = (await self._http.get("/v1/models")).json()["data"][0]["tandem"]["state"]

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + self._load.limit_seconds
        while not condition():
            self._check(end, what)
            await asyncio.sleep(_LOOK_SECONDS)

    def _check(self, end: float, what: str) -> None:
        self._users.check()
        self._engines.check()
        status = self._service.exit_status
        assert status is None, f"the orchestrator exited with {status}:\n{self._service.log[-2000:]}"
        assert time.monotonic() < end, (
            f"waited {self._load.limit_seconds:g} s for: {what}\n{self._service.log[-2000:]}"
        )


async def play(
    resources: Resources,
    engines: Engines,
    service: Service,
    load: Load,
    *,
    slow_start: int = 0,
    give_up: bool = False,
) -> Scaling:
    """Plays the steps against an orchestrator, and stops it and all engines at the end."""
    scaling = Scaling(resources, service, engines, say=saw)
    running = asyncio.create_task(scaling.run())
    scenario = Scenario(service, engines, scaling, load)
    try:
        await scenario.all(slow_start=slow_start)
        if give_up:
            await scenario.given_up()
    finally:
        await scenario.close()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await engines.close()
        service.terminate()
        await asyncio.to_thread(service.ended)
    return scaling
