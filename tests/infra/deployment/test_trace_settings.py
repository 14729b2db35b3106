"""Where traces go on AWS."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from infra.deployment.catalog import load_catalog
from infra.deployment.environment import orchestrator_environment, secret_variables
from infra.deployment.file import Deployment
from infra.deployment.plan import Plan

SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:otlp-AbCdEf"


def plan(**traces: Any) -> Plan:
    sections = {"orchestrator": {"traces": traces}} if traces else {}
    return Plan(Deployment.model_validate(sections), load_catalog())


def environment(one: Plan) -> dict[str, str]:
    made = orchestrator_environment(one, api_keys_secret_arn=SECRET)
    return {name: value for name, value in made.items() if name.startswith("OTEL_")}


def test_nothing_by_default() -> None:
    assert environment(plan()) == {}
    assert "OTEL_EXPORTER_OTLP_HEADERS" not in secret_variables(plan())


def test_collector_in_the_task() -> None:
    assert environment(plan(sidecar=True)) == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "OTEL_TRACES_SAMPLER_ARG": "0.05",
    }


def test_collector_of_ones_own() -> None:
    one = plan(endpoint="https://otlp.example.com/x", headers_secret_arn=SECRET, sample_ratio=1)
    assert environment(one) == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://otlp.example.com/x",
        "OTEL_TRACES_SAMPLER_ARG": "1",
    }
    assert "OTEL_EXPORTER_OTLP_HEADERS" in secret_variables(one)


@pytest.mark.parametrize(
    ("traces", "problem"),
    [
        ({"sample_ratio": 0.1}, "needs either"),
        ({"sidecar": True, "endpoint": "https://otlp.example.com"}, "not both"),
        ({"sidecar": True, "headers_secret_arn": SECRET}, "headers_secret_arn belongs to an endpoint"),
        ({"endpoint": "https://otlp.example.com:4318"}, "only connect to port 443"),
        ({"endpoint": "http://otlp.example.com"}, "endpoint"),
        ({"sidecar": True, "sample_ratio": 2}, "sample_ratio"),
    ],
)
def test_invalid_sections(traces: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        plan(**traces)
