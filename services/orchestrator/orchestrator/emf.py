"""Writes the metrics for CloudWatch to standard output, as lines in its embedded metric format (EMF).

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import orjson

from .collectors import EngineLoad, Totals
from .telemetry import Telemetry

log = logging.getLogger("orchestrator.emf")

_SECONDS = 10.0
"""The shortest period of a CloudWatch alarm."""

_MOST_VALUES = 100
"""CloudWatch accepts as many values of a metric in a line."""


@dataclass(slots=True)
class _Model:
    """A model, and what was counted until its last line.

    Attributes:
        entries: its names in telemetry. The first model also has what belongs to none.
    """

    entries: tuple[str, ...]
    totals: Totals
    load: EngineLoad


class Emf:
    """Writes a line per model in the middle of each of CloudWatch's periods, with what is new since the last.

    Args:
        loads: returns the load of each model's engines; the name is empty if there is only one.
        model: the dimension `Model` of the first model.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        loads: Callable[[], Mapping[str, EngineLoad]],
        *,
        deployment: str,
        model: str,
    ) -> None:
        catalog = orjson.loads(files(__package__).joinpath("metrics.json").read_bytes())
        self._namespace = catalog["namespace"]
        self._dimensions = catalog["dimensions"]
        self._deployment = deployment
        self._units = {one["name"]: one["unit"] for one in catalog["metrics"]}
        self._telemetry = telemetry
        self._loads = loads
        self._models: dict[str, _Model] = {}
        for entry, load in loads().items():
            entries = (entry,) if self._models else tuple({entry, ""})
            self._models[entry or model] = _Model(entries, telemetry.totals(entries), load)
        self._task: asyncio.Task[None] | None = None
        telemetry.keep_first_tokens()
        # Scaling depends on these lines, whatever level is logged.
        log.setLevel(logging.INFO)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        written = None
        while True:
            now = time.time()
            # Half a period from either end, so that a delay of seconds puts no two lines into a period.
            period = math.floor(now / _SECONDS + 0.5)
            if period == written:  # the timer was early
                period += 1
            await asyncio.sleep(period * _SECONDS + _SECONDS / 2 - now)
            self.write(period * _SECONDS)
            written = period

    def write(self, now: float) -> None:
        """Writes the lines of the period that a time is in."""
        period = now // _SECONDS * _SECONDS + _SECONDS / 2
        for model, load in zip(self._models, self._loads().values(), strict=True):
            values = self._values(self._models[model], load)
            metrics = [{"Name": name, "Unit": self._units[name], "StorageResolution": 1} for name in values]
            directive = {"Namespace": self._namespace, "Dimensions": [self._dimensions], "Metrics": metrics}
            root = {"Timestamp": int(period * 1000), "CloudWatchMetrics": [directive]}
            dimensions = dict(zip(self._dimensions, (self._deployment, model), strict=True))
            log.info("metrics", extra={"fields": {"_aws": root, **dimensions, **values}})

    def _values(self, model: _Model, engines: EngineLoad) -> dict[str, Any]:
        """The values by metric. A metric of which nothing is known is left out."""
        totals = self._telemetry.totals(model.entries)
        first_tokens = [one for entry in model.entries for one in self._telemetry.take_first_tokens(entry)]
        before, model.totals = model.totals, totals
        engines_before, model.load = model.load, engines
        # An answer may begin and end between two looks at the engines.
        served = (
            bool(first_tokens) or totals.tokens_in + totals.tokens_out > before.tokens_in + before.tokens_out
        )
        demand = max(engines.requests, float(served))
        values: dict[str, Any] = {
            "EngineDemand": demand,
            "HeldDemand": engines.held + engines.unmet - engines_before.unmet,
            "EnginesUp": engines.up,
            **_of_engines(engines, engines_before, demand),
            **_counted(totals, before),
        }
        if first_tokens:
            values["TimeToFirstToken"] = _quantiles(first_tokens)
        if engines.starts > engines_before.starts:
            values["EngineStartTime"] = round(engines.start_seconds, 1)
        return values


def _of_engines(now: EngineLoad, before: EngineLoad, demand: float) -> dict[str, Any]:
    if not now.up:
        return {}
    values = {
        "DemandPerEngine": round(demand / now.up, 2),
        "KvCacheUse": round(100 * now.kv_cache, 1),
        "Preemptions": now.preemptions - before.preemptions,
    }
    queries = now.prefix_queries - before.prefix_queries
    if queries > 0:
        values["PrefixHits"] = round(100 * (now.prefix_hits - before.prefix_hits) / queries, 1)
    return values


def _counted(now: Totals, before: Totals) -> dict[str, float]:
    return {
        "Rejections": now.rejections - before.rejections,
        "ToolCalls": now.tool_calls - before.tool_calls,
        "ToolErrors": now.tool_errors - before.tool_errors,
        "TokensIn": now.tokens_in - before.tokens_in,
        "TokensOut": now.tokens_out - before.tokens_out,
    }


def _quantiles(values: Sequence[float]) -> list[float]:
    """At most as many values as CloudWatch accepts, with the smallest, the largest and those in between."""
    ordered = sorted(values)
    last = len(ordered) - 1
    count = min(len(ordered), _MOST_VALUES)
    return [round(ordered[last * i // max(count - 1, 1)], 4) for i in range(count)]
