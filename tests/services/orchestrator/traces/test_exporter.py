"""Spans are sent in the background, in bounded numbers, whatever the collector does."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from orchestrator.traces import exporter as exporter_module
from orchestrator.traces.exporter import Exporter
from orchestrator.traces.span import Kind, Span, Trace, new_trace_id
from tests.support.live import live, until
from tests.support.otlp import Collector, collector
from tests.support.scripted_engine import Exchange, ScriptedEngine, body, cut, whole


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter_module, "_FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(exporter_module, "SEND_EVERY_SECONDS", 0.02)


def trace(spans: int = 1, text: str = "") -> Trace:
    made = [Span(f"step {number}", Kind.INTERNAL, "", {"text": text}) for number in range(spans)]
    for span in made:
        span.finish()
    return Trace(new_trace_id(), "", made)


def exporter(url: str, queue_spans: int = 2048) -> Exporter:
    return Exporter(f"{url}/v1/traces", headers={}, resource={"service.name": "x"}, queue_spans=queue_spans)


async def sent(one: Exporter, count: int) -> None:
    await until(lambda: one.counts["sent"] >= count)


async def test_traces_are_sent_without_being_asked_for() -> None:
    async with collector() as sink:
        one = exporter(sink.url)
        await one.start()
        one.offer(trace(3))
        await sent(one, 3)
        one.offer(trace(2))
        await sent(one, 5)
        assert len(sink._writers) == 1  # the connection is kept
        await one.close()
        assert len(sink.spans) == 5
        assert {request.headers["content-type"] for request in sink.requests} == {"application/json"}


async def test_rest_is_sent_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter_module, "SEND_EVERY_SECONDS", 3600.0)
    async with collector() as sink:
        one = exporter(sink.url)
        await one.start()
        one.offer(trace())
        await one.close()
        assert len(sink.spans) == 1


async def test_many_spans_go_in_batches() -> None:
    async with collector() as sink:
        one = exporter(sink.url, queue_spans=5000)
        for _ in range(1200):
            one.offer(trace(2))
        await one.start()
        await one.close()
        sizes = [request.body.count(b'"spanId"') for request in sink.requests]
        assert sum(sizes) == 2400
        assert max(sizes) <= 513
        assert len({span.id for span in sink.spans}) == 2400


async def test_full_queue_drops_whole_traces_and_counts_them() -> None:
    one = exporter("http://127.0.0.1:9", queue_spans=64)
    for _ in range(20):
        one.offer(trace(7))
    assert one.counts["queue_full"] == 7 * 20 - 63
    assert sum(len(waiting.spans) for waiting, _ in one._queue) == 63


async def test_long_texts_fill_the_queue_as_well() -> None:
    one = exporter("http://127.0.0.1:9", queue_spans=60_000)
    for _ in range(200):
        one.offer(trace(1, "x" * 131_072))
    assert one.counts["queue_full"] == 200 - 128


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_busy_collector_gets_the_same_spans_again(status: int) -> None:
    async with collector() as sink:
        sink.replies.extend([body({}, status), cut(), body({}, status)])
        one = exporter(sink.url)
        one.offer(trace(2))
        await one.start()
        await sent(one, 2)
        assert len({request.body for request in sink.requests}) == 1
        assert len(sink.requests) == 4
        assert one.counts["not_sent"] == 0
        await one.close()


async def test_collector_says_when_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async with collector() as sink:
        sink.replies.append(body({}, 503, retry_after="7"))
        one = exporter(sink.url)
        monkeypatch.setattr(one, "_pause", pause)
        one.offer(trace())
        await one.start()
        await sent(one, 1)
        await one.close()
    assert pauses == [7.0]


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 301])
async def test_other_statuses_drop_the_batch(status: int, caplog: pytest.LogCaptureFixture) -> None:
    async with collector() as sink:
        sink.replies.append(body({}, status))
        one = exporter(sink.url)
        one.offer(trace(2))
        await one.start()
        await until(lambda: one.counts["not_sent"] == 2)
        one.offer(trace(3))
        await sent(one, 3)
        await one.close()
    [problem] = [line for line in caplog.records if line.levelno == logging.WARNING]
    assert problem.fields["reason"] == f"HTTP status {status}"  # type: ignore[attr-defined]


async def test_rejected_spans_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    async with collector() as sink:
        sink.replies.append(body({"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}}))
        one = exporter(sink.url)
        one.offer(trace(5))
        await one.start()
        await sent(one, 3)
        await one.close()
    assert one.counts["rejected"] == 2
    assert "too old" in str([getattr(line, "fields", "") for line in caplog.records])


@pytest.mark.parametrize(
    "answer", [b"", b"null", b"[1]", b"not JSON", b'{"partialSuccess":null}', b'{"partialSuccess":{}}']
)
async def test_odd_answers_with_status_200_are_success(answer: bytes) -> None:
    async with collector() as sink:
        sink.replies.append(body(answer))
        one = exporter(sink.url)
        one.offer(trace())
        await one.start()
        await sent(one, 1)
        await one.close()


async def test_collector_that_is_down_costs_no_request_and_no_end(
    engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    async with live(engine.url, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as server:
        for _ in range(20):
            engine.play(whole("ok"))
            assert (await server.chat()).status_code == 200
        tracer = server.app._tracer
        assert tracer is not None
        await until(lambda: tracer.exporter.counts["not_sent"] > 0)
        assert 'trace_spans_total{outcome="not_sent"}' in await server.metrics()
        begun = time.monotonic()
    assert time.monotonic() - begun < 4
    problems = [line for line in caplog.records if line.name == "orchestrator.traces"]
    assert len(problems) == 1  # not one per attempt


async def test_collector_that_hangs_blocks_nothing(
    engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter_module, "_TIMEOUT_SECONDS", 0.1)
    arrived = asyncio.Event()

    async def hang(exchange: Exchange) -> None:
        arrived.set()
        await asyncio.Event().wait()

    async with collector() as sink:
        sink.replies.append(hang)
        async with live(engine.url, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url) as server:
            engine.play(whole("ok"), whole("ok"))
            await server.chat()
            await arrived.wait()
            assert (await server.chat()).status_code == 200
            tracer = server.app._tracer
            assert tracer is not None
            await sent(tracer.exporter, 4)
        await _let_go(sink)


async def _let_go(sink: Collector) -> None:
    for writer in sink._writers:
        writer.transport.abort()


async def test_collector_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with collector() as sink:
        port = sink.port
        await sink.stop()
        one = exporter(f"http://127.0.0.1:{port}")
        one.offer(trace())
        await one.start()
        await until(lambda: one._problem is not None)
        again = Collector()
        await again.start(port)
        one.offer(trace())
        await sent(one, 1)
        await one.close()
        await again.stop()
    assert "traces are accepted again" in caplog.text
