"""Writes docs/metrics.md and docs/grafana.json; `--check` checks that both are up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.generated import write_or_check  # noqa: E402
from infra.deployment.metrics import load_metrics  # noqa: E402

COMMAND = ".venv/bin/python docs/metrics.py"

INTRODUCTION = f"""\
# Metrics and alarms

<!-- Written by `{COMMAND}`. -->

On AWS, every orchestrator writes a line of JSON with the metrics below to standard output every 10
seconds, from which CloudWatch takes them (the embedded metric format). They are in the namespace
`{load_metrics().namespace}`, with the dimensions `Deployment` and `Model`. Elsewhere, `EMF=true`
turns the lines on. Prometheus reads the same metrics under `/metrics`, as gauges and as counters
since the start of the process.

Each orchestrator sees all engines, so the statistic of what engines report is the maximum. Each
counts its own requests, so those are summed. A metric of which nothing is known is left out:
without engines, there is no KV cache. The 14 metrics cost about $4 per month, and the lines about
$0.20 per orchestrator and month.

The dashboard of the deployment is in the console under CloudWatch, Dashboards.
[grafana.json](grafana.json) is a dashboard for Grafana with Prometheus as its data source. With
`metrics.container_insights`, CloudWatch also has each task's CPU, memory and network, and the share
of GPUs that tasks reserve. It does not report how busy the GPUs are.

## Metrics

| CloudWatch | unit | statistic | Prometheus | meaning |
|---|---|---|---|---|
"""

ALARMS = """
## Alarms

`metrics.alarm_email`, `metrics.alarm_topic_arn` and `metrics.slack_channel_id` say who gets the
alarms. Alarms of `gpu.min_replicas` and `gpu.max_replicas` that start and stop engines are not in
this table.

| alarm | threshold | minutes | meaning | remedy |
|---|---|---|---|---|
"""

PANELS = (
    ("Engines that answer", "max(engines_up)", "short"),
    ("Requests in engines or held", "max(engine_demand) + sum(held_demand)", "short"),
    ("Requests per engine", "max(demand_per_engine)", "short"),
    (
        "Time to first token, p95",
        "histogram_quantile(0.95, sum by (le) (rate(time_to_first_token_seconds_bucket[5m])))",
        "s",
    ),
    ("KV cache of the fullest engine", "max(kv_cache_use_percent)", "percent"),
    ("Tokens of prompts found in the prefix cache", "avg(prefix_hits_percent)", "percent"),
    ("Interrupted requests per second", "max(rate(engine_preemptions_total[5m]))", "ops"),
    ("Rejected requests per second", "sum(rate(admission_rejections_total[5m]))", "ops"),
    ("Tool calls per second", "sum by (tool_name) (rate(tool_calls_total[5m]))", "ops"),
    ("Failed tool calls per second", "sum(rate(tool_errors_total[5m]))", "ops"),
    ("Tokens of prompts per second", "sum(rate(tokens_in_total[5m]))", "ops"),
    ("Generated tokens per second", "sum(rate(tokens_out_total[5m]))", "ops"),
    ("Duration of the last start", "max(engine_start_seconds)", "s"),
    ("Requests per second by status", "sum by (status) (rate(requests_total[5m]))", "ops"),
)
"""Title, PromQL and unit of each panel."""


def page() -> str:
    """The whole page."""
    catalog = load_metrics()
    metrics = "".join(
        f"| `{one.name}` | {one.unit} | {one.statistic} | `{one.prometheus}` | {one.meaning} |\n"
        for one in catalog.metrics.values()
    )
    alarms = "".join(
        f"| {name} | {one.threshold:g} | {one.minutes} | {one.summary} | {one.remedy} |\n"
        for name, one in catalog.alarms.items()
    )
    return INTRODUCTION + metrics + ALARMS + alarms


def grafana() -> str:
    """The dashboard that Grafana imports."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels = [
        _panel(number, title, expression, unit, source)
        for number, (title, expression, unit) in enumerate(PANELS)
    ]
    variable = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    dashboard = {
        "title": "Tandem",
        "uid": "tandem",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": panels,
    }
    return json.dumps(dashboard, indent=1) + "\n"


def _panel(number: int, title: str, expression: str, unit: str, source: dict[str, str]) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": {"x": number % 3 * 8, "y": number // 3 * 8, "w": 8, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [{"refId": "A", "expr": expression, "datasource": source}],
    }


if __name__ == "__main__":
    documents = {ROOT / "docs/metrics.md": page(), ROOT / "docs/grafana.json": grafana()}
    sys.exit(write_or_check(documents, COMMAND))
