"""Chooses the requests that are traced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from .. import __version__
from ..record import Record
from ..trace_settings import Sampler, TraceSettings, pairs
from .exporter import Exporter
from .record import TracedRecord
from .span import new_span_id, new_trace_id, parse_parent

_FULL = 2**64


class Tracer(Collector):
    """Gives sampled requests a record that notes their steps, and sends these to a collector.

    Args:
        deployment: the name of the deployment.
    """

    def __init__(self, settings: TraceSettings, *, deployment: str) -> None:
        self._bound = round(_share(settings.otel_traces_sampler, settings.otel_traces_sampler_arg) * _FULL)
        self._client_decides = settings.otel_traces_sampler.startswith("parentbased_")
        capture = settings.otel_instrumentation_genai_capture_message_content
        self._content_limit = settings.otel_attribute_value_length_limit if capture else 0
        headers = settings.otel_exporter_otlp_headers
        self.exporter = Exporter(
            settings.traces_url or "",
            headers=pairs(headers.get_secret_value()) if headers else {},
            resource=_resource(settings, deployment),
            queue_spans=settings.otel_bsp_max_queue_size,
        )

    def record(self, record: Record, method: bytes) -> Record:
        """Returns a record that notes the steps of the request, or the same one if it is not sampled."""
        parent = parse_parent(record.traceparent) if record.traceparent else None
        if parent is not None and self._client_decides:
            sampled, trace_id = parent.sampled, parent.trace_id
        else:
            trace_id = parent.trace_id if parent else new_trace_id()
            sampled = int(trace_id[16:], 16) < self._bound
        if sampled:
            return TracedRecord(
                record,
                method.decode("latin-1"),
                parent,
                trace_id=trace_id,
                content_limit=self._content_limit,
                offer=self.exporter.offer,
            )
        if parent is None:  # or else the engine would decide again, and trace all of them
            record.traceparent = f"00-{trace_id}-{new_span_id()}-00"
        return record

    def collect(self) -> Iterator[Metric]:
        spans = CounterMetricFamily("trace_spans", "Spans of traced requests", labels=["outcome"])
        for outcome, count in self.exporter.counts.items():
            spans.add_metric([outcome], count)
        yield spans


def _share(sampler: Sampler, ratio: float) -> float:
    return {"always_on": 1.0, "always_off": 0.0}.get(sampler.removeprefix("parentbased_"), ratio)


def _resource(settings: TraceSettings, deployment: str) -> Mapping[str, str]:
    return {
        "service.name": settings.otel_service_name,
        "service.version": __version__,
        "service.namespace": deployment,
        "telemetry.sdk.name": "tandem",
        "telemetry.sdk.language": "python",
        **pairs(settings.otel_resource_attributes),
    }
