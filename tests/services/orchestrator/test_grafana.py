"""The Grafana dashboard shows metrics that the orchestrator exposes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from orchestrator.collectors import EngineLoad
from orchestrator.telemetry import Record, Telemetry

DASHBOARD = Path(__file__).parents[3] / "docs" / "grafana.json"
FUNCTIONS = {"max", "sum", "avg", "rate", "by", "le", "histogram_quantile", "tool_name", "status"}


def exposed() -> set[str]:
    telemetry = Telemetry()
    telemetry.watch_load(lambda: {"": EngineLoad(up=1, prefix_queries=1, starts=1)})
    telemetry.tool_called("calculate_math", "ok", 0.1)
    telemetry.finished(Record("r", "/v1/completions", status=200, first_token=0.5))
    return {
        re.split(r"[{ ]", line)[0] for line in telemetry.exposition().decode().splitlines() if line[0] != "#"
    }


def test_every_panel_reads_a_metric_that_exists() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    names = exposed()
    assert len(dashboard["panels"]) > 10
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            read = set(re.findall(r"[a-z_]{3,}", target["expr"])) - FUNCTIONS
            assert read, panel["title"]
            assert read <= names, panel["title"]


def test_panels_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]]
    assert len({(one["x"], one["y"]) for one in places}) == len(places)
    assert all(one["x"] + one["w"] <= 24 for one in places)
