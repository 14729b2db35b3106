"""The resources that scale engines, at work: metrics of an orchestrator, alarms, policies, engines.

CloudWatch and Application Auto Scaling are those of `bench.scaling`. Their clock advances by ten seconds with
each line of metrics that the orchestrator writes. So it runs faster than ours by a factor that is chosen,
waits for an orchestrator that the machine delays, and stands still until an engine that has to stop knows it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.scaling.autoscaling import Target
from bench.scaling.cloudwatch import Metrics, Watched
from bench.scaling.resources import Resources
from tests.support.processes import ORCHESTRATOR, ORCHESTRATOR_SERVES, Service

from .scaling_engines import Engines

METRIC_DELAY = 15.0
LINE_SECONDS = 10
_LOOK_SECONDS = 0.02
_VARIABLES = ("ENGINE_STARTUP_SECONDS", "EMF", "REQUEST_TIMEOUT_SECONDS")

# Everything is the deployed program, but its lines come more often, as AWS's clock runs faster.
_PROGRAM = """
import sys
from orchestrator import emf
emf._SECONDS = {seconds}
from orchestrator.__main__ import main
sys.exit(main())
"""


def orchestrator(deployed: Mapping[str, str], engines: Engines, *, model: str, speed: float) -> Service:
    """Starts the orchestrator with the variables of the deployed task that matter here."""
    service = Service(
        "orchestrator",
        [sys.executable, "-c", _PROGRAM.format(seconds=LINE_SECONDS / speed)],
        {
            **{name: deployed[name] for name in _VARIABLES},
            "DEFAULT_MODEL": model,
            "PYTHONPATH": os.pathsep.join([str(ORCHESTRATOR)]),
            "VLLM_URL": ",".join(f"http://127.0.0.1:{port}" for port in engines.ports),
            "HOST": "127.0.0.1",
            "PORT": "0",
            "WEATHER_SOURCE": "sample",
            "DRAIN_SECONDS": "0",
            "STOP_SECONDS": "1",
        },
        ORCHESTRATOR_SERVES,
    )
    service.wait()
    return service


@dataclass
class Scaling:
    """Lets the deployed alarms and policies resize the engines.

    Attributes:
        seconds: the time on AWS's clock.
        changes: the numbers of engines that were wanted, in order.
        say: called with each change.
    """

    resources: Resources
    orchestrator: Service
    engines: Engines
    say: Callable[[str], None] = print
    seconds: int = 0
    changes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._target = Target(self.resources)
        self._metrics = Metrics(delay=METRIC_DELAY, resolution=LINE_SECONDS)
        self._alarms = [Watched(alarm) for alarm in self.resources.alarms]
        self._read = 0

    @property
    def desired(self) -> int:
        """The number of engines that is wanted."""
        return self._target.desired

    async def run(self) -> None:
        """Reads the lines until it is cancelled."""
        while True:
            log = self.orchestrator.log
            end = log.rfind("\n") + 1
            lines, self._read = log[self._read : end].splitlines(), end
            for line in lines:
                if '"_aws"' in line and self.engines.settled:
                    self._take(json.loads(line))
            await asyncio.sleep(_LOOK_SECONDS)

    def _take(self, line: dict[str, Any]) -> None:
        """Lives ten seconds: publishes what a line says, and evaluates the alarms that are due."""
        for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
            value = line[metric["Name"]]
            for one in value if isinstance(value, list) else [value]:
                self._metrics.put(metric["Name"], one, self.seconds)
        if self.seconds % 60 == 0:
            self._metrics.put("GroupInServiceInstances", len(self.engines.running), self.seconds)
        self.seconds += LINE_SECONDS
        for watched in self._alarms:
            due = self.seconds % watched.interval == 0
            if due and watched.evaluate(self._metrics, self.seconds):
                self._act(watched)

    def _act(self, watched: Watched) -> None:
        for action in watched.alarm.actions:
            before = self.desired
            self._target.call(action, watched.value, watched.alarm.threshold, self.seconds)
            if self.desired != before:
                policy = self.resources.policies[action].name
                name = policy.partition("EngineScaling")[2][:12] or policy
                self.say(f"{self.seconds:5} s on AWS's clock: {before} -> {self.desired} engines, by {name}")
                self.changes.append(self.desired)
                self.engines.resize(self.desired)
