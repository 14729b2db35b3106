"""Which requests are traced: by their share, or as the client's `traceparent` says."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from orchestrator.settings import Settings
from orchestrator.telemetry import Record
from orchestrator.traces.tracer import Tracer
from tests.support.live import live
from tests.support.otlp import collector, resource_of, roots
from tests.support.scripted_engine import ScriptedEngine, whole

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
LOW, HIGH = "0" * 16 + "0" * 15 + "1", "f" * 32


def tracer(**environment: str) -> Tracer:
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **environment}
    return Tracer(Settings.from_environment(given), deployment="shop")


def record(traceparent: str = "") -> Record:
    return Record("r1", "/v1/chat/completions", traceparent=traceparent)


@pytest.mark.parametrize(
    ("sampler", "ratio", "traceparent", "traced"),
    [
        ("parentbased_traceidratio", "1", "", True),
        ("parentbased_traceidratio", "0", "", False),
        ("parentbased_traceidratio", "0", f"00-{TRACE}-{SPAN}-01", True),
        ("parentbased_traceidratio", "1", f"00-{TRACE}-{SPAN}-00", False),
        ("parentbased_traceidratio", "1", f"00-{TRACE}-{SPAN}-02", False),
        ("parentbased_traceidratio", "0", f"00-{TRACE}-{SPAN}-03", True),
        ("parentbased_always_on", "0", "", True),
        ("parentbased_always_off", "1", "", False),
        ("parentbased_always_off", "1", f"00-{TRACE}-{SPAN}-01", True),
        ("always_on", "0", f"00-{TRACE}-{SPAN}-00", True),
        ("always_off", "1", f"00-{TRACE}-{SPAN}-01", False),
        ("traceidratio", "0.5", f"00-{LOW}-{SPAN}-00", True),
        ("traceidratio", "0.5", f"00-{HIGH}-{SPAN}-01", False),
    ],
)
def test_sampling(sampler: str, ratio: str, traceparent: str, traced: bool) -> None:
    one = tracer(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=ratio)
    chosen = one.record(record(traceparent), b"POST")
    assert chosen.traced is traced
    if traceparent:
        assert chosen.traceparent[3:35] == traceparent[3:35]


def test_share_is_kept() -> None:
    random.seed(7)
    one = tracer(OTEL_TRACES_SAMPLER_ARG="0.1")
    count = sum(one.record(record(), b"POST").traced for _ in range(5000))
    assert 400 < count < 600


def test_engine_learns_that_a_request_is_not_traced() -> None:
    chosen = tracer(OTEL_TRACES_SAMPLER_ARG="0").record(record(), b"POST")
    assert chosen.traceparent.endswith("-00")
    assert chosen.traceparent in chosen.identity


HOSTILE = [
    "00-" + "0" * 32 + f"-{SPAN}-01",
    f"00-{TRACE}-" + "0" * 16 + "-01",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-01-extra",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE}-{SPAN}",
    "00-" + "é" * 32 + f"-{SPAN}-01",
    "x" * 4000,
    "-",
]


async def test_hostile_traceparent_starts_a_trace_of_its_own(engine: ScriptedEngine) -> None:
    async with collector() as sink:
        async with live(engine.url, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url) as server:
            for traceparent in HOSTILE:
                engine.play(whole("ok"))
                headers = [(b"traceparent", traceparent.encode()), (b"tracestate", b"a=1")]
                request = {"model": "scripted", "messages": []}
                await server.http.post("/v1/chat/completions", json=request, headers=headers)
        found = roots(sink.spans)
    assert len(found) == len(HOSTILE)
    assert {(root.parent, root.state) for root in found} == {("", "")}
    assert len({root.trace_id for root in found} | {TRACE}) == len(HOSTILE) + 1


async def test_service_is_described(engine: ScriptedEngine) -> None:
    engine.play(whole("ok"))
    async with collector() as sink:
        settings = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{sink.url}/otlp/v1/traces",
            "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic%20c2VjcmV0,x-tenant=a",
            "OTEL_SERVICE_NAME": "chat",
            "OTEL_RESOURCE_ATTRIBUTES": "team=shop,deployment.environment.name=a%2Cb",
            "DEPLOYMENT_NAME": "blue",
        }
        async with live(engine.url, **settings) as server:
            await server.chat()
        [request] = sink.requests
    assert request.path == "/otlp/v1/traces"
    assert request.headers["authorization"] == "Basic c2VjcmV0"
    assert request.headers["x-tenant"] == "a"
    resource = resource_of(request)
    assert resource["service.name"] == "chat"
    assert resource["service.namespace"] == "blue"
    assert resource["team"] == "shop"
    assert resource["deployment.environment.name"] == "a,b"


def test_nothing_is_imported_while_traces_are_off() -> None:
    code = (
        "import sys; from orchestrator.app import Orchestrator; from orchestrator.settings import Settings\n"
        "Orchestrator(Settings.from_environment({}))\n"
        "print([name for name in sys.modules if name.startswith('orchestrator.traces')])"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"


async def test_traces_are_off_by_default(engine: ScriptedEngine) -> None:
    engine.play(whole("ok"))
    async with live(engine.url) as server:
        await server.chat()
        assert "trace_spans" not in await server.metrics()
        assert all(endpoint.tracer is None for endpoint in server.app.router._exact.values())
    assert "traceparent" not in engine.requests[0].headers
