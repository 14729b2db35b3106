"""A collector of traces that does what a test says. It reads requests with OpenTelemetry's own schema."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from tests.support.scripted_engine import EngineRequest, Exchange, Reply, body, read_request

from .live import until
from .scripted_server import ScriptedServer

ACCEPT = body({})


@dataclass
class Seen:
    """A span as the collector has read it."""

    trace_id: str
    id: str
    parent: str
    name: str
    kind: str
    attributes: dict[str, Any]
    failed: bool
    error: str
    start: int
    end: int
    state: str
    children: list[Seen] = field(default_factory=list)

    def tree(self) -> Any:
        """Returns the names of the span and those below it, in order of their starts."""
        return (self.name, [child.tree() for child in self.children]) if self.children else self.name


class Collector(ScriptedServer):
    """Listens on a free port of 127.0.0.1.

    Attributes:
        requests: what it was sent.
        replies: what it answers to the next requests; otherwise it accepts them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[EngineRequest] = []
        self.replies: deque[Reply] = deque()

    @property
    def spans(self) -> list[Seen]:
        """All spans that it was sent, in order of their starts."""
        found = [span for request in self.requests for span in spans_of(request)]
        return sorted(found, key=lambda span: span.start)

    @property
    def text(self) -> str:
        return "".join(request.body.decode() for request in self.requests)

    async def traces(self, count: int = 1) -> list[Seen]:
        """Waits for some traces, and returns the first span of each, with the others below it."""
        await until(lambda: len(roots(self.spans)) >= count)
        return roots(self.spans)

    async def trace(self) -> Seen:
        [root] = await self.traces()
        return root

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await read_request(reader):
            reply = self.replies.popleft() if self.replies else ACCEPT
            self.requests.append(request)
            await reply(Exchange(request, writer))


def roots(spans: list[Seen]) -> list[Seen]:
    """Puts each span below its parent, and returns those whose parent is not among them."""
    by_id = {span.id: span for span in spans}
    found = []
    for span in spans:
        span.children = []
    for span in spans:
        parent = by_id.get(span.parent)
        if parent is None:
            found.append(span)
        else:
            assert parent.trace_id == span.trace_id
            assert parent.start <= span.start <= span.end <= parent.end
            parent.children.append(span)
    return found


def spans_of(request: EngineRequest) -> list[Seen]:
    """Reads a request in JSON or, as vLLM sends it, in protobuf."""
    if request.headers["content-type"] != "application/x-protobuf":
        return spans_in(request.json)
    return _spans(ExportTraceServiceRequest.FromString(request.body))


def spans_in(value: Any) -> list[Seen]:
    """Reads a request in JSON. A field that the schema does not have is an error."""
    for one in [s for r in value["resourceSpans"] for p in r["scopeSpans"] for s in p["spans"]]:
        for name in ("traceId", "spanId", "parentSpanId"):  # hexadecimal in OTLP, unlike in protobuf's JSON
            one[name] = base64.b64encode(bytes.fromhex(one[name])).decode()
    return _spans(ParseDict(value, ExportTraceServiceRequest()))


def _spans(request: Any) -> list[Seen]:
    return [
        _seen(span)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def resource_of(request: EngineRequest) -> dict[str, Any]:
    value = json.loads(request.body)
    attributes = value["resourceSpans"][0]["resource"]["attributes"]
    return {one["key"]: one["value"]["stringValue"] for one in attributes}


def _seen(span: Any) -> Seen:
    return Seen(
        trace_id=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        kind=WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        attributes={one.key: _value(one.value) for one in span.attributes},
        failed=span.status.code == 2,
        error=span.status.message,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        state=span.trace_state,
    )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    one = Collector()
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


@contextlib.contextmanager
def collector_in_thread() -> Iterator[Collector]:
    """Runs a collector for tests with event loops of their own, which share it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="collector")
    thread.start()
    one = Collector()
    try:
        asyncio.run_coroutine_threadsafe(one.start(), loop).result(10)
        yield one
        asyncio.run_coroutine_threadsafe(one.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
