"""The section `orchestrator.traces` of the deployment file."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from .values import HttpsUrl, SecretArn, Section

COLLECTOR_ADDRESS = "127.0.0.1:4318"
"""Of the collector beside each orchestrator, which only that can reach."""

_HTTPS = 443


class Traces(Section):
    """Where traces of requests go: to X-Ray, or to a collector of your own. Exactly one of both."""

    sidecar: bool = Field(
        default=False,
        description="Whether a collector in each task (AWS Distro for OpenTelemetry) sends traces to X-Ray, "
        "which charges $5 per million.",
    )
    endpoint: HttpsUrl | None = Field(
        default=None,
        description="Base URL of a collector that accepts OTLP over HTTP in JSON, on port 443.",
    )
    headers_secret_arn: SecretArn | None = Field(
        default=None, description="Secret with the headers for `endpoint`: `name=value,name=value`."
    )
    sample_ratio: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of requests that are traced, unless a client's `traceparent` decides.",
    )

    @model_validator(mode="after")
    def _one_destination(self) -> Self:
        if self.sidecar == bool(self.endpoint):
            raise ValueError("needs either `sidecar: true` or an `endpoint`, and not both")
        if self.headers_secret_arn and not self.endpoint:
            raise ValueError("headers_secret_arn belongs to an endpoint; X-Ray takes the task's role")
        if self.endpoint and (urlsplit(self.endpoint).port or _HTTPS) != _HTTPS:
            raise ValueError(f"endpoint {self.endpoint}: tasks can only connect to port 443 of a collector")
        return self

    @property
    def url(self) -> str:
        """The URL that an orchestrator sends traces to."""
        return self.endpoint or f"http://{COLLECTOR_ADDRESS}"
