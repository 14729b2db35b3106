"""Shows which step of its start an engine is in, and how long each step took last time."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ops.account import Account, translated
from ops.engines import EngineService, engine_services
from ops.logs import group_of
from ops.report import Result, Status

SUBJECT = "engine start"
STEPS = {
    "instance": "an instance starts",
    "image": "the image is pulled",
    "cache": "compiled caches are restored",
    "copy": "the weights are copied to the disk",
    "process": "vLLM is imported",
    "weights": "the weights are loaded",
    "compile": "graphs are compiled and captured",
    "warm_up": "the engine warms up",
}
"""The steps as services/vllm/engine_start/steps.py reports them, in order."""

_DAYS = 7
_SLOW = 3
"""Times that a step takes longer than last time before it is reported as a problem."""

_LEAST_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Progress:
    """The step that a start is in, since when (seconds since 1970), and its detail."""

    step: str
    since: float
    detail: str = ""


def check_engine_start(account: Account) -> list[Result]:
    """Reports the step of each engine that starts, and the seconds of each model's last complete start."""
    return [
        replace(result, found=f"{one.whose}{result.found}")
        for one in engine_services(account)
        for result in _starts(account, one)
    ]


def _starts(account: Account, engines: EngineService) -> list[Result]:
    ecs = account.client("ecs")
    arns = ecs.list_tasks(cluster=engines.cluster, serviceName=engines.service)["taskArns"]
    tasks = ecs.describe_tasks(cluster=engines.cluster, tasks=arns)["tasks"] if arns else []
    group = group_of(account, engines.cluster, engines.service)
    last = _last_start(account, group)
    starting = [task for task in tasks if task.get("healthStatus") != "HEALTHY"]
    results = [_starting(progress_of(account, group, task), last) for task in starting]
    if not last:
        return [*results, Result(Status.OK, SUBJECT, f"no start in the last {_DAYS} days is in the log")]
    return [*results, Result(Status.OK, SUBJECT, f"the last one took {_seconds_of(last)}")]


def progress_of(account: Account, group: str, task: Any) -> Progress:
    """Returns how far a task is: until its container runs, ECS knows; from then on, its log."""
    pulled = task.get("pullStoppedAt")
    if not pulled:
        pulling = task.get("pullStartedAt")
        return (
            Progress("image", _epoch(pulling)) if pulling else Progress("instance", _epoch(task["createdAt"]))
        )
    identity = task["taskArn"].rpartition("/")[2]
    entries = [
        (event["timestamp"] / 1000, fields)
        for event, fields in _events(account, group, "engine_step", _epoch(task["createdAt"]))
        if event["logStreamName"].endswith(identity)
    ]
    if not entries:
        return Progress("process", _epoch(pulled))
    fields = entries[-1][1]
    step = str(fields.get("step"))
    since = next(at for at, one in entries if one.get("step") == step)
    done, total = fields.get("bytes"), fields.get("of_bytes")
    detail = f", {done / 1e9:.1f} of {total / 1e9:.1f} GB" if done is not None and total else ""
    return Progress(step, since, detail)


def _starting(progress: Progress, last: dict[str, float]) -> Result:
    spent = max(time.time() - progress.since, 0.0)
    took = last.get(progress.step)
    before = f" (last time {took:.0f} s)" if took is not None else ""
    meaning = STEPS.get(progress.step, progress.step)
    found = f"{meaning}, for {spent:.0f} s{before}{progress.detail}{_remaining(progress.step, spent, last)}"
    if took is not None and spent > max(_SLOW * took, _LEAST_SECONDS):
        return Result(
            Status.WARNING, SUBJECT, found, "make logs; make doctor shows what stopped earlier tasks"
        )
    return Result(Status.OK, SUBJECT, found)


def _remaining(step: str, spent: float, last: dict[str, float]) -> str:
    """What is left of the start, if its steps take as long as last time."""
    if step not in last:
        return ""
    order = list(STEPS)
    later = sum(last.get(one, 0.0) for one in order[order.index(step) + 1 :])
    return f"; about {max(last[step] - spent, 0.0) + later:.0f} s are left"


def _last_start(account: Account, group: str) -> dict[str, float]:
    """Returns the seconds of the steps of the last complete start; {} if the log has none."""
    entries = _events(account, group, "engine_start", time.time() - _DAYS * 86_400)
    seconds = entries[-1][1].get("seconds") if entries else None
    return (
        {step: float(seconds[step]) for step in STEPS if step in seconds} if isinstance(seconds, dict) else {}
    )


def _seconds_of(last: dict[str, float]) -> str:
    steps = ", ".join(f"{step.replace('_', '-')} {seconds:.0f} s" for step, seconds in last.items())
    return f"{sum(last.values()):.0f} s: {steps}"


def _events(account: Account, group: str, kind: str, start: float) -> list[tuple[Any, dict[str, Any]]]:
    """The engine's JSON lines of a kind, oldest first, each with its CloudWatch event."""
    with translated():
        pages = (
            account.client("logs")
            .get_paginator("filter_log_events")
            .paginate(
                logGroupName=group, startTime=int(start * 1000), filterPattern=f'{{ $.event = "{kind}" }}'
            )
        )
        events = [event for page in pages for event in page["events"]]
    found = []
    for event in sorted(events, key=lambda one: int(one["timestamp"])):
        try:
            fields = json.loads(event["message"])
        except ValueError:
            continue
        if isinstance(fields, dict):
            found.append((event, fields))
    return found


def _epoch(at: datetime) -> float:
    return at.timestamp()
