"""What is sent is valid OTLP, which a protobuf of OpenTelemetry's own schema reads."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.traces.otlp import Encoder
from orchestrator.traces.span import Kind, Span, Trace
from tests.support.otlp import roots, spans_in

TRACE = "0af7651916cd43dd8448eb211c80319c"


def read(*traces: Trace) -> list[Any]:
    encoder = Encoder({"service.name": "x"})
    return spans_in(json.loads(encoder.request([encoder.spans([one]) for one in traces])))


def span(name: str = "step", parent: str = "", **attributes: Any) -> Span:
    return Span(name, Kind.CLIENT, parent, attributes, start=1_795_376_254_000_000_001, end=0)


def test_all_kinds_of_values() -> None:
    one = span(text="é", flag=True, number=2**62, share=0.25, names=["a", "b"], none=0)
    one.finish()
    [seen] = read(Trace(TRACE, "k=v", [one]))
    assert seen.attributes == {
        "text": "é", "flag": True, "number": 2**62, "share": 0.25, "names": ["a", "b"], "none": 0,
    }  # fmt: skip
    assert (seen.trace_id, seen.id, seen.kind, seen.state) == (TRACE, one.id, "CLIENT", "k=v")
    assert seen.start == 1_795_376_254_000_000_001
    assert not seen.failed


def test_errors_have_a_status_and_a_type() -> None:
    one = span()
    one.finish("timeout")
    one.finish("later")
    [seen] = read(Trace(TRACE, "", [one]))
    assert (seen.failed, seen.error, seen.attributes["error.type"]) == (True, "timeout", "timeout")


def test_parents_are_kept_and_remote_ones_are_marked() -> None:
    parent = span(parent="b7ad6b7169203331")
    child = span(parent=parent.id)
    for one in (child, parent):
        one.finish()
    encoder = Encoder({})
    encoded = json.loads(encoder.request([encoder.spans([Trace(TRACE, "", [parent, child])])]))
    spans = encoded["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [one["flags"] for one in spans] == [0x301, 0x101]
    [root] = roots(spans_in(encoded))
    assert [one.id for one in root.children] == [child.id]


@given(st.text(st.characters(codec=None)), st.text(max_size=20))
def test_any_text_is_encoded(name: str, text: str) -> None:
    one = span(name, text=text + "\ud800")
    one.finish()
    [seen] = read(Trace(TRACE, "", [one]))
    assert seen.name == name.encode(errors="replace").decode()


def test_a_clock_that_was_set_back_gives_no_negative_duration() -> None:
    one = Span("step", Kind.INTERNAL, "", start=2**62)
    one.finish()
    assert one.end == one.start
