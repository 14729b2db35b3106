"""The settings of traces. Their names are those of OpenTelemetry's specification."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, Field, SecretStr

Sampler = Literal[
    "always_on", "always_off", "traceidratio",
    "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio",
]  # fmt: skip


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be a URL such as http://collector:4318")
    if parts.username or parts.password:
        raise ValueError("must not contain a user or password; set OTEL_EXPORTER_OTLP_HEADERS")
    _ = parts.port
    return value.rstrip("/")


def pairs(value: str) -> dict[str, str]:
    """Reads `name=value,name=value`, with values as in a URL.

    Raises:
        ValueError: a part has no name, or a control character.
    """
    found = {}
    for part in value.split(","):
        name, separator, text = part.partition("=")
        name, text = name.strip(), unquote(text.strip())
        if not part.strip():
            continue
        if not separator or not name or not (name + text).isprintable():
            raise ValueError("must be name=value pairs separated by commas, in the encoding of URLs")
        found[name] = text
    return found


def _headers(value: SecretStr) -> SecretStr:
    for name, text in pairs(value.get_secret_value()).items():
        if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum() and text.isascii()):
            raise ValueError("must have names of letters, digits, '-' and '_', and values in ASCII")
    return value


def _attributes(value: str) -> str:
    pairs(value)
    return value


class TraceSettings(BaseModel):
    """Where spans are sent, how many, and what is in them."""

    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(_url)] | None = Field(
        None,
        description="Base URL of an OpenTelemetry collector, such as `http://collector:4318`, that gets a "
        "trace of each sampled request. Default: no traces.",
    )
    otel_exporter_otlp_traces_endpoint: Annotated[str, AfterValidator(_url)] | None = Field(
        None,
        description="The whole URL for traces, if it is not `/v1/traces` below OTEL_EXPORTER_OTLP_ENDPOINT.",
    )
    otel_exporter_otlp_headers: Annotated[SecretStr, AfterValidator(_headers)] | None = Field(
        None, description="Headers sent to the collector, such as its key: `name=value,name=value`."
    )
    otel_exporter_otlp_protocol: Literal["http/json"] | None = Field(
        None, description="The collector's protocol. Only OTLP over HTTP, in JSON, is supported."
    )
    otel_traces_sampler: Sampler = Field(
        "parentbased_traceidratio",
        description="How requests are sampled. With `parentbased_`, the client's `traceparent` decides for a "
        "request that has one.",
    )
    otel_traces_sampler_arg: float = Field(
        1.0, ge=0, le=1, allow_inf_nan=False, description="Share of requests that are sampled, from 0 to 1."
    )
    otel_service_name: str = Field(
        "tandem-orchestrator", min_length=1, max_length=255, description="Name of the service in traces."
    )
    otel_resource_attributes: Annotated[str, AfterValidator(_attributes)] = Field(
        "", description="Further attributes of the service in traces: `name=value,name=value`."
    )
    otel_instrumentation_genai_capture_message_content: bool = Field(
        False,
        description="Whether traces contain messages, and the arguments and results of tool calls.",
    )
    otel_attribute_value_length_limit: int = Field(
        8192, ge=64, le=131_072, description="Maximum length of each of these in a trace, in characters."
    )
    otel_bsp_max_queue_size: int = Field(
        2048, ge=64, le=65_536, description="Spans that wait to be sent; further traces are dropped."
    )

    @property
    def traces_url(self) -> str | None:
        """The URL that spans are sent to, None if traces are off."""
        base = self.otel_exporter_otlp_endpoint
        return self.otel_exporter_otlp_traces_endpoint or (f"{base}/v1/traces" if base else None)
