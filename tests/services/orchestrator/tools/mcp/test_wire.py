from __future__ import annotations

import pytest
from mcp.shared.inbound import decode_header_value, encode_header_value

from orchestrator.tools.context import ToolContext
from orchestrator.tools.mcp.wire import (
    McpError,
    Rejected,
    header_value,
    is_answer,
    parse,
    result_of,
    trace_headers,
    trace_meta,
)


@pytest.mark.parametrize(
    "text", ["plain", "two words", "Zürich", " edge ", "", "a\nb", "=?base64?x?=", "日本"]
)
def test_header_values_are_those_of_the_official_sdk(text: str) -> None:
    assert decode_header_value(header_value(text)) == text
    if text:
        assert header_value(text) == encode_header_value(text)


def test_trace_context_that_could_break_a_header_stays_in_the_message() -> None:
    context = ToolContext("r1", "00-a\r\nX: 1", "")
    assert trace_meta(context) == {"traceparent": "00-a\r\nX: 1", "x-request-id": "r1"}
    assert trace_headers(trace_meta(context)) == {"x-request-id": "r1"}
    assert trace_meta(None) == {}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"5", b'"x"', b"\xff"])
def test_what_is_not_an_object_is_an_error(data: bytes) -> None:
    with pytest.raises(McpError):
        parse(data)


def test_answers_are_recognised_by_their_number() -> None:
    assert is_answer({"id": 7, "result": {}}, 7)
    assert is_answer({"id": "7", "result": {}}, 7)
    assert is_answer({"id": None, "error": {}}, 7)
    assert not is_answer({"id": 8, "result": {}}, 7)
    assert not is_answer({"id": 7, "method": "ping"}, 7)


def test_error_of_a_server_is_cut() -> None:
    with pytest.raises(Rejected) as caught:
        result_of({"error": {"code": -32602, "message": "x" * 9000}})
    assert caught.value.code == -32602
    assert len(str(caught.value)) == 500
