"""The trace context of a client reaches the engine, in every round."""

from __future__ import annotations

import pytest

from tests.support.live import Live
from tests.support.scripted_engine import ScriptedEngine, call, whole

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"traceparent": PARENT}, {"traceparent": PARENT}),
        ({"traceparent": PARENT, "tracestate": "a=1,b=2"}, {"traceparent": PARENT, "tracestate": "a=1,b=2"}),
        ({"traceparent": PARENT, "tracestate": "x" * 513}, {"traceparent": PARENT}),
        ({"traceparent": PARENT.upper(), "tracestate": "a=1"}, {}),
        ({"traceparent": PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32)}, {}),
        ({"traceparent": "ff" + PARENT[2:]}, {}),
        ({"tracestate": "a=1"}, {}),
        ({}, {}),
    ],
)
async def test_trace_context_is_sent_to_the_engine(
    server: Live, engine: ScriptedEngine, given: dict[str, str], expected: dict[str, str]
) -> None:
    calculate = {"type": "function", "function": {"name": "calculate_math"}}
    engine.play(whole(calls=[call("calculate_math", {"expression": "1+1"})]), whole("2"), whole("Hi"))
    await server.chat(tools=[calculate], headers=given)
    await server.chat(headers=given)
    assert len(engine.requests) == 3
    for request in engine.requests:
        sent = {name: value for name, value in request.headers.items() if name.startswith("trace")}
        assert sent == expected
