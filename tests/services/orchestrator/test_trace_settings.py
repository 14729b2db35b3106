"""The settings of traces."""

from __future__ import annotations

import pytest

from orchestrator.errors import SettingsError
from orchestrator.settings import Settings
from orchestrator.trace_settings import pairs


def read(**environment: str) -> Settings:
    return Settings.from_environment(environment)


def test_off_by_default() -> None:
    settings = read()
    assert settings.traces_url is None
    assert settings.otel_instrumentation_genai_capture_message_content is False


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c/otlp/"}, "https://c/otlp/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:1/x"}, "http://c:1/x"),
        (
            {
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:1/x",
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
            },
            "http://c:1/x",
        ),
    ],
)
def test_url(environment: dict[str, str], url: str) -> None:
    assert read(**environment).traces_url == url


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "must be a URL such as http://collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://collector:4317", "must be a URL"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:b@c", "set OTEL_EXPORTER_OTLP_HEADERS"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/v1/traces?x=1", "must be a URL"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization", "name=value"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b%0d%0ac: d", "name=value"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c", "names of letters"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=%C3%A9", "ASCII"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/json"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "2", "less than or equal to 1"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan", "finite"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team", "name=value"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "64"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "999999999", "131072"),
    ],
)
def test_invalid_value(name: str, value: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{name: value})
    assert caught.value.name == name
    assert problem in str(caught.value)


def test_headers_are_secret() -> None:
    settings = read(OTEL_EXPORTER_OTLP_HEADERS="x-key=hush")
    assert "hush" not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        read(OTEL_EXPORTER_OTLP_HEADERS="hush")
    assert "hush" not in str(caught.value)


def test_pairs() -> None:
    assert pairs(" a = b%20c , d=e=f,, g=") == {"a": "b c", "d": "e=f", "g": ""}
