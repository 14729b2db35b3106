"""The identity of spans."""

from __future__ import annotations

import re

import pytest

from orchestrator.traces.span import Kind, Parent, Span, Trace, new_span_id, new_trace_id, parse_parent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("ff", True)])
def test_parent(flags: str, sampled: bool) -> None:
    assert parse_parent(f"00-{TRACE}-{SPAN}-{flags}") == Parent(TRACE, SPAN, sampled)


@pytest.mark.parametrize("text", ["", "00", f"00-{TRACE}-{SPAN}-01\n", f"ff-{TRACE}-{SPAN}-01"])
def test_invalid_parent(text: str) -> None:
    assert parse_parent(text) is None


def test_ids_are_new_and_valid() -> None:
    ids = {new_trace_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
    span = Span("x", Kind.INTERNAL, "")
    assert parse_parent(Trace(ids.pop(), "", [span]).traceparent(span)) is not None
    assert re.fullmatch("[0-9a-f]{16}", new_span_id())
