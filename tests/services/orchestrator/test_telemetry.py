"""Metrics in Prometheus' format and log lines in JSON."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.collectors import EngineState
from orchestrator.log_lines import LineHandler
from orchestrator.telemetry import JsonFormatter, Record, Telemetry


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the service's logger writes."""
    stream = io.StringIO()
    handler = LineHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("orchestrator")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
    yield stream
    logger.propagate = True
    logger.removeHandler(handler)
    logger.setLevel(level)


def samples(telemetry: Telemetry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(telemetry.exposition().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


def finished_record(**fields: Any) -> Record:
    return Record("r-1", "/v1/chat/completions", key_name="alice", status=200, **fields)


def test_requests_are_counted_by_route_status_and_key() -> None:
    telemetry = Telemetry()
    for _ in range(2):
        telemetry.finished(finished_record())
    found = samples(telemetry)
    asked = labels(route="/v1/chat/completions", status="200", key_name="alice")
    assert found["requests_total", asked] == 2
    assert found["request_latency_seconds_count", labels(route="/v1/chat/completions", stream="false")] == 2
    assert found["time_to_first_token_seconds_count", labels()] == 0


def test_histogram_is_cumulative_and_includes_the_sum() -> None:
    telemetry = Telemetry()
    for seconds in (0.003, 0.02, 0.02, 1000):
        telemetry.tool_called("calc", "ok", seconds)
    found = samples(telemetry)
    buckets = {
        bound: found["tool_call_duration_seconds_bucket", labels(tool_name="calc", le=bound)]
        for bound in ("0.005", "0.01", "0.025", "300.0", "+Inf")
    }
    assert buckets == {"0.005": 1, "0.01": 1, "0.025": 3, "300.0": 3, "+Inf": 4}
    assert found["tool_call_duration_seconds_sum", labels(tool_name="calc")] == pytest.approx(1000.043)
    assert found["tool_calls_total", labels(tool_name="calc", outcome="ok")] == 4


def test_tokens_are_summed_over_rounds_under_either_name() -> None:
    record = finished_record(model="m", rounds=2)
    record.count_tokens({"prompt_tokens": 10, "completion_tokens": 5})
    record.count_tokens({"input_tokens": 3, "output_tokens": None})
    record.count_tokens(None)
    record.count_tokens({"prompt_tokens": "7", "completion_tokens": -1})
    record.count_tokens({"prompt_tokens": 2**80, "completion_tokens": {"text": 1}})
    telemetry = Telemetry()
    telemetry.finished(record)
    found = samples(telemetry)
    assert found["tokens_total", labels(kind="prompt", model="m", key_name="alice")] == 13
    assert found["tokens_total", labels(kind="completion", model="m", key_name="alice")] == 5
    assert found["tool_rounds_sum", labels()] == 2


def test_engine_states_are_read_when_metrics_are_requested() -> None:
    telemetry = Telemetry()
    states = [EngineState("10.0.0.1:8000", True, 3)]
    telemetry.watch_engines(lambda: {"": states})
    assert samples(telemetry)["engine_requests_in_flight", labels(engine="10.0.0.1:8000")] == 3
    states[:] = [EngineState("10.0.0.2:8000", False, 0)]
    found = samples(telemetry)
    assert found["engine_up", labels(engine="10.0.0.2:8000")] == 0
    assert ("engine_up", labels(engine="10.0.0.1:8000")) not in found


def test_request_is_logged_as_one_line_of_json(lines: io.StringIO) -> None:
    Telemetry().finished(finished_record(rounds=1, tools=["calc"], error="boom"))
    line = json.loads(lines.getvalue())
    assert (line["message"], line["level"], line["logger"]) == ("request", "info", "orchestrator")
    assert (line["request_id"], line["status"], line["key_name"]) == ("r-1", 200, "alice")
    assert (line["rounds"], line["tools"], line["error"]) == (1, ["calc"], "boom")
    assert line["time"] > 1_700_000_000


def test_quiet_request_is_counted_but_not_logged(lines: io.StringIO) -> None:
    telemetry = Telemetry()
    telemetry.finished(finished_record(), quiet=True)
    assert lines.getvalue() == ""
    asked = labels(route="/v1/chat/completions", status="200", key_name="alice")
    assert samples(telemetry)["requests_total", asked] == 1


def test_exception_is_part_of_its_log_line(lines: io.StringIO) -> None:
    try:
        raise LookupError("nowhere")
    except LookupError:
        logging.getLogger("orchestrator").exception("failed", extra={"fields": {"odd": object}})
    line = json.loads(lines.getvalue())
    assert "LookupError: nowhere" in line["exception"]
    assert line["odd"] == "<class 'object'>"


async def test_lines_of_one_loop_iteration_are_written_together(lines: io.StringIO) -> None:
    log = logging.getLogger("orchestrator")
    log.info("one")
    log.info("two")
    assert lines.getvalue() == ""
    await asyncio.sleep(0)
    assert [json.loads(line)["message"] for line in lines.getvalue().splitlines()] == ["one", "two"]


def test_number_of_labels_is_bounded() -> None:
    """An engine that names a new model in each answer must not fill the memory."""
    telemetry = Telemetry()
    for number in range(3000):
        record = finished_record(model=f"model-{number}", prompt_tokens=1)
        telemetry.finished(record)
    found = samples(telemetry)
    tokens = {labels: value for (name, labels), value in found.items() if name == "tokens_total"}
    assert len(tokens) == 2001
    assert tokens[labels(kind="other", model="other", key_name="other")] == 1000
