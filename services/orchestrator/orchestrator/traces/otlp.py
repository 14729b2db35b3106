"""Encodes spans as OTLP in JSON (opentelemetry-proto, `ExportTraceServiceRequest`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from .. import __version__
from .span import Span, Trace, Value

Json = dict[str, Any]

_SCOPE = {"name": "tandem", "version": __version__}
_ERROR = 2
_FLAGS_OF_LOCAL_PARENT = 0x101  # sampled, and known not to be remote
_FLAGS_OF_REMOTE_PARENT = 0x301


class Encoder:
    """Encodes spans of one service.

    Args:
        resource: the attributes of the service.
    """

    def __init__(self, resource: Mapping[str, str]) -> None:
        resource_json = orjson.dumps({"attributes": _attributes(resource)})
        self._before = b'{"resourceSpans":[{"resource":%b,"scopeSpans":[{"scope":%b,"spans":[' % (
            resource_json,
            orjson.dumps(_SCOPE),
        )

    def spans(self, traces: Iterable[Trace]) -> bytes:
        """Returns the spans of some traces, separated by commas."""
        encoded = [_span(trace, span) for trace in traces for span in trace.spans]
        try:
            return orjson.dumps(encoded)[1:-1]
        except orjson.JSONEncodeError:  # half of a surrogate pair
            text = json.dumps(encoded, ensure_ascii=False)
            return text.encode(errors="replace")[1:-1]

    def request(self, parts: Iterable[bytes]) -> bytes:
        """Returns the body of a request with some encoded spans."""
        return self._before + b",".join(part for part in parts if part) + b"]}]}]}"


def _span(trace: Trace, span: Span) -> Json:
    whole = span is trace.spans[0]
    encoded: Json = {
        "traceId": trace.id,
        "spanId": span.id,
        "parentSpanId": span.parent_id,
        "name": span.name,
        "kind": int(span.kind),
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _attributes(span.attributes),
        "flags": _FLAGS_OF_REMOTE_PARENT if whole and span.parent_id else _FLAGS_OF_LOCAL_PARENT,
    }
    if trace.state:
        encoded["traceState"] = trace.state
    if span.error:
        encoded["status"] = {"code": _ERROR, "message": span.error}
        encoded["attributes"].append({"key": "error.type", "value": {"stringValue": span.error}})
    return encoded


def _attributes(values: Mapping[str, Value]) -> list[Json]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Value) -> Json:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"arrayValue": {"values": [{"stringValue": one} for one in value]}}
