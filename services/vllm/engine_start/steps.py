"""The steps of a start and the seconds of each, for the log, for CloudWatch and for whoever asks."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

ORDER = ("instance", "image", "cache", "copy", "process", "weights", "compile", "warm_up")
"""All steps, in order: boot, image pull, restored caches, copied weights, imports of vLLM, loading the
weights, compiling and capturing graphs, and the time until /health answers. A start may skip some."""

_MARKS = (
    (re.compile(r"Starting to load model "), "weights"),
    (re.compile(r"(?:Model loading|Loading weights) took .*?([\d.]+) seconds"), "compile"),
    (re.compile(r"Warming up model for the compilation"), "compile"),
    (re.compile(r"init engine \(profile, create kv cache, warmup model\) took "), "warm_up"),
)
"""Lines of vLLM's log, the step that begins with each, and the seconds of `weights` if the line has them."""

Report = Callable[[Mapping[str, Any]], None]


def print_line(entry: Mapping[str, Any]) -> None:
    """Writes one JSON line to the log, at once."""
    sys.stderr.write(json.dumps(entry, separators=(",", ":")) + "\n")
    sys.stderr.flush()


class Steps:
    """What a start has done so far. Several threads may use it.

    Args:
        report: Called with one entry per step that begins, and with one for the whole start.
        metrics: Added to the entry of the whole start; its functions take the seconds of the steps.
        previous: The seconds of the last start's steps, if they are known.
    """

    def __init__(
        self,
        *,
        report: Report = print_line,
        metrics: Callable[[Mapping[str, float]], Mapping[str, Any]] = lambda _: {},
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}
        self._step: str | None = None
        self._since = clock()
        self._progress: Mapping[str, int] | None = None
        self._state = "starting"
        self.previous: Mapping[str, float] = {}

    def add(self, step: str, seconds: float) -> None:
        """Records a step that ended before this process started."""
        with self._lock:
            self._seconds[step] = round(seconds, 1)

    def begin(self, step: str) -> None:
        """Ends the step before and begins this one; a step that has passed does not begin again."""
        with self._lock:
            if self._state != "starting" or not self._is_later(step):
                return
            self._end_step()
            self._step = step
        self._report({"event": "engine_step", "step": step})

    def progress(self, done: int, total: int) -> None:
        """Records how many bytes of the current step are done, and reports it."""
        with self._lock:
            self._progress = {"bytes": done, "of_bytes": total}
            entry = {"event": "engine_step", "step": self._step, **self._progress}
        self._report(entry)

    def read(self, line: str) -> None:
        """Begins the step that a line of vLLM's log announces, if it does."""
        for mark, step in _MARKS:
            if found := mark.search(line):
                if mark.groups and self._step == "process":  # no line has announced the weights
                    self._split("weights", float(found[1]))
                self.begin(step)

    def ready(self) -> None:
        """Ends the last step, and reports the whole start in one entry."""
        with self._lock:
            if self._state != "starting":
                return
            self._end_step()
            self._state, self._step = "ready", None
            seconds = self.seconds
        total = round(sum(seconds.values()), 1)
        self._report(
            {"event": "engine_start", "seconds": seconds, "total_seconds": total, **self._metrics(seconds)}
        )

    def stop(self) -> None:
        """Records that the engine is ending."""
        with self._lock:
            self._state, self._step = "stopping", None

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of the steps that have ended, in order."""
        return {step: self._seconds[step] for step in ORDER if step in self._seconds}

    def status(self) -> dict[str, Any]:
        """Returns what the status port answers."""
        with self._lock:
            status: dict[str, Any] = {"state": self._state, "seconds": self.seconds}
            if self._step:
                status["step"] = self._step
                status["step_seconds"] = round(self._clock() - self._since, 1)
                status |= self._progress or {}
            if self.previous:
                status["previous_seconds"] = dict(self.previous)
                status["remaining_seconds"] = self._remaining()
            return status

    def _is_later(self, step: str) -> bool:
        return self._step is None or ORDER.index(step) > ORDER.index(self._step)

    def _split(self, step: str, seconds: float) -> None:
        """Counts the last seconds of the current step as those of the next one, `step`."""
        with self._lock:
            began = max(self._since, self._clock() - seconds)
            if self._step:
                self._seconds[self._step] = round(began - self._since, 1)
            self._step, self._since = step, began

    def _end_step(self) -> None:
        now = self._clock()
        if self._step:
            self._seconds[self._step] = round(now - self._since, 1)
        self._since, self._progress = now, None

    def _remaining(self) -> float:
        """How long this start will take, if its remaining steps take as long as they did last time."""
        if self._step is None:
            return 0.0
        here = ORDER.index(self._step)
        later = sum(self.previous.get(step, 0.0) for step in ORDER[here + 1 :])
        spent = self._clock() - self._since
        return round(max(self.previous.get(self._step, 0.0) - spent, 0.0) + later, 1)


def metric_line(namespace: str, deployment: str, model: str) -> Callable[[Mapping[str, float]], Any]:
    """Returns a function that adds CloudWatch's embedded metric format to the entry of a start."""

    def add(seconds: Mapping[str, float]) -> dict[str, Any]:
        values = {f"EngineStart{_title(step)}Seconds": value for step, value in seconds.items()}
        values["EngineStartSeconds"] = round(sum(seconds.values()), 1)
        return {
            "_aws": {
                "Timestamp": int(time.time() * 1000),
                "CloudWatchMetrics": [
                    {
                        "Namespace": namespace,
                        "Dimensions": [["Deployment", "Model"]],
                        "Metrics": [{"Name": name, "Unit": "Seconds"} for name in values],
                    }
                ],
            },
            "Deployment": deployment,
            "Model": model,
            **values,
        }

    return add


def _title(step: str) -> str:
    return "".join(part.capitalize() for part in step.split("_"))
