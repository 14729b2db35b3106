"""The lines from which CloudWatch takes the metrics."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import emf as emf_module
from orchestrator.collectors import EngineLoad
from orchestrator.emf import Emf, _quantiles
from orchestrator.telemetry import JsonFormatter, Record, Telemetry
from tests.support.live import live, until
from tests.support.scripted_engine import ScriptedEngine, whole

CATALOG = json.loads(Path(emf_module.__file__).with_name("metrics.json").read_text())
NOON = 1_795_608_003.0


class Lines(logging.Handler):
    """The lines as they are written, as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    handler = Lines()
    logger = logging.getLogger("orchestrator.emf")
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)


class Rig:
    """A publisher whose engines are what the test says."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        self.telemetry = Telemetry()
        self.load = EngineLoad()
        self.emf = Emf(self.telemetry, lambda: {"": self.load}, deployment="shop", model="Qwen/Qwen2.5-7B")
        self._lines = lines

    def line(self, load: EngineLoad | None = None) -> dict[str, Any]:
        self.load = load or self.load
        self.emf.write(NOON)
        return self._lines[-1]


@pytest.fixture
def rig(lines: list[dict[str, Any]]) -> Rig:
    return Rig(lines)


def test_line_is_in_the_embedded_metric_format(rig: Rig) -> None:
    line = rig.line(EngineLoad(requests=3, up=2, kv_cache=0.5))
    [directive] = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Tandem"
    assert directive["Dimensions"] == [["Deployment", "Model"]]
    assert (line["Deployment"], line["Model"]) == ("shop", "Qwen/Qwen2.5-7B")
    units = {one["name"]: one["unit"] for one in CATALOG["metrics"]}
    for metric in directive["Metrics"]:
        assert metric["Unit"] == units[metric["Name"]]
        assert metric["StorageResolution"] == 1
        assert isinstance(line[metric["Name"]], int | float)
    assert len(json.dumps(line)) < 4096


def test_timestamp_is_the_middle_of_the_period_so_that_each_has_one_line(rig: Rig) -> None:
    assert rig.line()["_aws"]["Timestamp"] == 1_795_608_005_000


def test_no_engine_has_no_cache_and_no_share_of_the_demand(rig: Rig) -> None:
    line = rig.line(EngineLoad(held=2))
    assert (line["EngineDemand"], line["HeldDemand"], line["EnginesUp"]) == (0, 2, 0)
    assert "DemandPerEngine" not in line
    assert "KvCacheUse" not in line
    assert "PrefixHits" not in line
    assert "TimeToFirstToken" not in line


def test_requests_that_found_no_engine_count_once_and_those_that_wait_in_every_line(rig: Rig) -> None:
    assert rig.line(EngineLoad(held=1, unmet=3))["HeldDemand"] == 4
    assert rig.line()["HeldDemand"] == 1
    assert rig.line(EngineLoad(unmet=3))["HeldDemand"] == 0


def test_demand_is_shared_by_the_engines_that_answer(rig: Rig) -> None:
    line = rig.line(EngineLoad(requests=5, up=2, kv_cache=0.123))
    assert (line["EngineDemand"], line["DemandPerEngine"], line["KvCacheUse"]) == (5, 2.5, 12.3)


def test_answer_between_two_lines_counts_as_demand(rig: Rig) -> None:
    rig.telemetry.finished(Record("r", "/v1/completions", status=200, prompt_tokens=3, completion_tokens=4))
    line = rig.line(EngineLoad(up=1))
    assert (line["EngineDemand"], line["TokensIn"], line["TokensOut"]) == (1, 3, 4)
    line = rig.line()
    assert (line["EngineDemand"], line["TokensIn"], line["TokensOut"]) == (0, 0, 0)


def test_counts_are_those_since_the_last_line(rig: Rig) -> None:
    rig.telemetry.tool_called("calculate_math", "ok", 0.1)
    rig.telemetry.tool_called("calculate_math", "timeout", 10)
    for code in ("too_many_requests", "engine_unavailable", "engine_starting", "rate_limit_exceeded"):
        rig.telemetry.finished(Record("r", "/v1/completions", status=503, error_code=code))
    line = rig.line()
    assert (line["ToolCalls"], line["ToolErrors"], line["Rejections"]) == (2, 1, 2)
    line = rig.line()
    assert (line["ToolCalls"], line["ToolErrors"], line["Rejections"]) == (0, 0, 0)


def test_prefix_hits_are_those_since_the_last_line(rig: Rig) -> None:
    rig.line(EngineLoad(up=1, prefix_queries=1000, prefix_hits=0, preemptions=1))
    line = rig.line(EngineLoad(up=1, prefix_queries=1200, prefix_hits=150, preemptions=4))
    assert (line["PrefixHits"], line["Preemptions"]) == (75, 3)
    assert "PrefixHits" not in rig.line()


def test_start_is_in_the_line_after_it(rig: Rig) -> None:
    assert "EngineStartTime" not in rig.line()
    assert rig.line(EngineLoad(up=1, starts=1, start_seconds=181.27))["EngineStartTime"] == 181.3
    assert "EngineStartTime" not in rig.line()


def test_first_tokens_are_sent_one_by_one(rig: Rig) -> None:
    for seconds in (0.25, 3.0, 0.5):
        rig.telemetry.finished(Record("r", "/v1/completions", status=200, first_token=seconds))
    assert rig.line()["TimeToFirstToken"] == [0.25, 0.5, 3.0]
    assert "TimeToFirstToken" not in rig.line()


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=1000))
def test_many_first_tokens_become_100_with_the_same_distribution(values: list[float]) -> None:
    found = _quantiles(values)
    assert len(found) == min(len(values), 100)
    assert found == sorted(found)
    assert (found[0], found[-1]) == (round(min(values), 4), round(max(values), 4))


def test_first_tokens_between_two_lines_are_bounded() -> None:
    telemetry = Telemetry()
    record = Record("r", "/v1/completions", status=200, first_token=1.0)
    telemetry.finished(record)
    assert telemetry.take_first_tokens() == []
    telemetry.keep_first_tokens()
    for _ in range(3000):
        telemetry.finished(record, quiet=True)
    assert len(telemetry.take_first_tokens()) == 1000


def test_lines_are_written_at_any_log_level(lines: list[dict[str, Any]]) -> None:
    root = logging.getLogger("orchestrator")
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        Rig(lines).line()
    finally:
        root.setLevel(before)
    assert len(lines) == 1


async def test_server_writes_lines_while_it_serves(
    engine: ScriptedEngine, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.otherwise = whole("Hello")
    monkeypatch.setattr(emf_module, "_SECONDS", 0.05)
    async with live(engine.url, EMF="true", DEPLOYMENT_NAME="shop") as server:
        await server.chat()
        await until(lambda: any(line["EngineDemand"] == 1 for line in lines))
        await until(lambda: lines[-1]["EngineDemand"] == 0)
    line = next(line for line in lines if line["EngineDemand"] == 1)
    assert (line["Deployment"], line["EngineDemand"], line["EnginesUp"]) == ("shop", 1, 1)


def test_every_metric_of_the_catalog_is_written_and_in_prometheus_format(rig: Rig) -> None:
    rig.telemetry.watch_load(lambda: {"": rig.load})
    rig.telemetry.finished(Record("r", "/v1/completions", status=200, first_token=0.5))
    load = EngineLoad(up=1, prefix_queries=10, prefix_hits=5, starts=1, start_seconds=60)
    written = set(rig.line(load)) - {"_aws", "Deployment", "Model", "time", "level", "logger", "message"}
    assert written == {one["name"] for one in CATALOG["metrics"]}
    exposed = rig.telemetry.exposition().decode()
    for one in CATALOG["metrics"]:
        assert f"# TYPE {one['prometheus'].removesuffix('_total')}" in exposed, one["prometheus"]


def test_each_model_has_a_line_with_what_belongs_to_it(lines: list[dict[str, Any]]) -> None:
    telemetry = Telemetry(models=["large", "small"])
    loads = {"large": EngineLoad(requests=3, up=2), "small": EngineLoad(unmet=1)}
    emf = Emf(telemetry, lambda: loads, deployment="shop", model="ignored")
    telemetry.finished(Record("r", "/v1/completions", status=200, first_token=0.5, entry="small"))
    telemetry.finished(Record("r", "/v1/completions", status=200, prompt_tokens=7, entry="large"))
    telemetry.finished(Record("r", "/v1/completions", status=429, error_code="too_many_requests"))
    telemetry.tool_called("calculate_math", "ok", 0.1, "small")
    loads["small"] = EngineLoad(unmet=3)
    emf.write(NOON)
    large, small = lines
    assert (large["Model"], small["Model"]) == ("large", "small")
    assert large["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Deployment", "Model"]]
    assert (large["EngineDemand"], small["HeldDemand"]) == (3, 2)
    assert (large["TokensIn"], small["TokensIn"]) == (7, 0)
    assert (large["ToolCalls"], small["ToolCalls"]) == (0, 1)
    assert (large["Rejections"], small["Rejections"]) == (1, 0), "the first has what reached no model"
    assert small["TimeToFirstToken"] == [0.5]
    assert "TimeToFirstToken" not in large
