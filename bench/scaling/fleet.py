"""The engines, and the requests that they answer, hold or miss, second by second."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """What the simulation assumes of the deployment, in seconds where nothing else is said.

    Attributes:
        cold_start: from the decision to start an engine to its first answer, on a new instance.
        warm_start: the same on an instance that still runs.
        linger: how long an instance without a task runs on, which managed scaling decides.
        startup: for how long a stream waits for an engine (ENGINE_STARTUP_SECONDS).
        slots, queue: the requests that an engine runs at a time, and runs or queues.
        metric_delay: from a line in the log to its value in CloudWatch.
        tasks: the number of orchestrators, each of which publishes every `publish` seconds.
        retry: after how long a request without a stream comes back (Retry-After), for as long as a stream
            would wait.
        earliest: no engine answers before this second, however long ago it was started.
    """

    cold_start: int = 230
    warm_start: int = 110
    linger: int = 900
    startup: int = 900
    slots: int = 32
    queue: int = 64
    metric_delay: float = 15
    tasks: int = 3
    publish: int = 10
    retry: int = 60
    earliest: float = 0


@dataclass(order=True)
class Request:
    """One request: when it arrives, and for how long an engine works on it."""

    at: int
    seconds: int = 10
    stream: bool = True
    first: int = -1

    def __post_init__(self) -> None:
        if self.first < 0:
            self.first = self.at


@dataclass
class Engine:
    """An engine on its instance.

    Attributes:
        launched: when its instance began to cost money for it.
        ready: when it answers.
        stopped: whether it finishes its requests and takes no new ones.
    """

    launched: int
    ready: float
    stopped: bool = False
    running: list[int] = field(default_factory=list)
    waiting: deque[Request] = field(default_factory=deque)

    @property
    def load(self) -> int:
        return len(self.running) + len(self.waiting)


@dataclass
class Fleet:
    """The engines and the requests that are under way.

    Attributes:
        waits: for each answered request, the seconds until an engine began it.
        lost: requests that were accepted and got no answer.
        rejected: requests that got a 503, because every engine was busy.
        instance_seconds: how long instances ran.
        last_end: when the last request ended, or its client gave up.
        starts, stops: the times at which engines were started and stopped.
    """

    facts: Facts
    engines: list[Engine] = field(default_factory=list)
    held: deque[Request] = field(default_factory=deque)
    later: list[Request] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)
    lost: int = 0
    rejected: int = 0
    unmet: int = 0
    ended: bool = False
    instance_seconds: int = 0
    last_end: int = 0
    starts: list[int] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    _idle_instances: list[int] = field(default_factory=list)

    def up(self, now: int) -> list[Engine]:
        return [one for one in self.engines if one.ready <= now and not one.stopped]

    @property
    def demand(self) -> int:
        """What engines run or queue; at least 1 if a request has ended since the last line."""
        return max(sum(one.load for one in self.engines if not one.stopped), int(self.ended))

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return bool(self.held or self.later or any(one.load for one in self.engines))

    def instances(self, now: int) -> int:
        """Returns the number of instances that run, with or without an engine."""
        return len(self.engines) + sum(end > now for end in self._idle_instances)

    def resize(self, desired: int, now: int) -> None:
        """Starts or stops engines, as ECS does when the desired count changes."""
        wanted = [one for one in self.engines if not one.stopped]
        for _ in range(desired - len(wanted)):
            self._start(now)
        # Those that were started last are stopped first: the worst choice for the time to start again.
        for engine in wanted[desired:]:
            engine.stopped = True
            self.stops.append(now)

    def _start(self, now: int) -> None:
        self._idle_instances = [end for end in self._idle_instances if end > now]
        warm = bool(self._idle_instances)
        if warm:
            self.instance_seconds -= self._idle_instances.pop() - now  # it was counted to its end
        seconds = self.facts.warm_start if warm else self.facts.cold_start
        self.engines.append(Engine(now, max(now + seconds, self.facts.earliest)))
        self.starts.append(now)

    def step(self, now: int, arrivals: Iterable[Request]) -> None:
        """Lives one second."""
        for engine in self.engines:
            self._work(engine, now)
        for engine in [one for one in self.engines if one.stopped and not one.load]:
            self.engines.remove(engine)
            self.instance_seconds += now - engine.launched + self.facts.linger
            self._idle_instances.append(now + self.facts.linger)
        up = self.up(now)
        while self.held and up and self._give(self.held[0], up, now):
            self.held.popleft()
        while self.held and now - self.held[0].at > self.facts.startup:
            self.held.popleft()
            self.unmet += 1
            self._lose(now)
        while self.later and self.later[0].at <= now:
            request = heapq.heappop(self.later)
            if now - request.first > self.facts.startup and not up:
                self._lose(now)
            else:
                self._arrive(request, up, now)
        for request in arrivals:
            self._arrive(request, up, now)

    def _arrive(self, request: Request, up: list[Engine], now: int) -> None:
        if up:
            if not self._give(request, up, now):
                self.rejected += 1
        elif request.stream:
            self.held.append(request)
        else:
            self.unmet += 1
            heapq.heappush(
                self.later,
                Request(now + self.facts.retry, request.seconds, stream=False, first=request.first),
            )

    def _lose(self, now: int) -> None:
        self.lost += 1
        self.last_end = now

    def _give(self, request: Request, up: list[Engine], now: int) -> bool:
        """Gives a request to the least loaded engine; False if that is full."""
        engine = min(up, key=lambda one: one.load)
        if engine.load >= self.facts.queue:
            return False
        engine.waiting.append(request)
        self._work(engine, now)
        return True

    def _work(self, engine: Engine, now: int) -> None:
        while engine.running and engine.running[0] <= now:
            self.last_end = heapq.heappop(engine.running)
            self.ended = True
        while engine.waiting and len(engine.running) < self.facts.slots:
            request = engine.waiting.popleft()
            self.waits.append(now - request.first)
            heapq.heappush(engine.running, now + request.seconds)

    def finish(self, now: int) -> None:
        """Ends the simulation: counts what still runs."""
        for engine in self.engines:
            self.instance_seconds += now - engine.launched
        self.instance_seconds -= sum(max(0, end - now) for end in self._idle_instances)
