from __future__ import annotations

import itertools
import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidRequest
from orchestrator.protocol import (
    EventBuffer,
    add_usage,
    check_chat_request,
    dumps,
    loads,
    parse_object,
    payloads,
)

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b"{not json", "not valid JSON"),
        (b"[1]", "must be a JSON object, not a list"),
        (b'"text"', "not a string"),
        (b"1", "not a number"),
        (b"null", "not null"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b"[" * 10_000, "depth"),
        (b'{"a":' * 10_000, "depth"),
    ],
)
def test_body_that_is_not_a_json_object_is_rejected(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        parse_object(body)
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"messages": []}, "messages", "an empty list"),
        ({"messages": None}, "messages", "missing"),
        ({"messages": "Hi"}, "messages", "a string"),
        ({"messages": ["Hi"]}, "messages[0]", "must be an object, not a string"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"stream_options": []}, "stream_options", "an object"),
        ({"model": 7}, "model", "a string"),
        ({"tools": {}}, "tools", "must be a list, not an object"),
        ({"tools": ["x"]}, "tools[0]", "must be an object"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "with a name"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "not null"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name", "1 to 256"),
        (
            {"tools": [{"type": "function", "function": {"name": "x" * 257}}]},
            "tools[0].function.name",
            "1 to 256 characters, not 'xxx.*…",
        ),
    ],
)
def test_invalid_field_is_reported_with_what_is_allowed(
    fields: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        check_chat_request({"messages": MESSAGES, **fields})
    assert caught.value.param == param


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": None, "tools": None, "unknown": 1},
        {"tools": [{"type": "mcp", "server_label": "x"}]},
        {"tools": [{"type": "function", "function": {"name": "x", "parameters": {"type": "object"}}}]},
        {"tools": [{"type": "function", "function": {"name": "获取天气", "description": None}}]},
        *(
            {"tools": [{"type": "function", "function": {"name": "x", "parameters": parameters}}]}
            for parameters in [
                {"type": "nonsense"},
                {"required": None},
                {"properties": {"x": {"items": [{"type": "string"}], "exclusiveMinimum": True}}},
                {"$schema": "http://127.0.0.1:9/internal"},
                {"$ref": "file:///etc/hostname"},
                "object",
            ]
        ),
    ],
)
def test_fields_that_the_engine_checks_are_accepted(fields: dict[str, Any]) -> None:
    check_chat_request({"messages": MESSAGES, **fields})


def test_usage_objects_are_added_with_their_details() -> None:
    first = {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 3}, "other": None}
    second = {"prompt_tokens": 4, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
    assert add_usage(add_usage({}, first), second) == {
        "prompt_tokens": 14,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4},
        "other": None,
    }
    assert add_usage(first, None) == first
    assert add_usage({"a": {"b": 1}}, {"a": None}) == {"a": {"b": 1}}


EVENT = st.one_of(
    st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3).map(
        lambda value: b"data: " + orjson.dumps(value)
    ),
    st.just(b"data: [DONE]"),
    st.just(b": keep-alive"),
    st.just(b"event: x\ndata: 1\ndata:2"),
)


@given(
    st.lists(EVENT, max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(0, 5000), max_size=10),
)
def test_events_do_not_depend_on_how_the_stream_is_split_into_reads(
    events: list[bytes], line_end: bytes, at: list[int]
) -> None:
    data = b"".join(event.replace(b"\n", line_end) + line_end * 2 for event in events)
    places = sorted({place % (len(data) + 1) for place in at})
    buffer = EventBuffer()
    blocks = [buffer.feed(data[a:b]) for a, b in itertools.pairwise([0, *places, len(data)])]
    assert all(block == b"" or block.endswith(b"\n\n") for block in blocks)
    whole = b"".join(blocks)
    expected = [p for event in events for p in payloads(event)]
    found = list(payloads(whole))
    # A CR at the very end may be half of a CRLF, so it is held back.
    assert found == expected or (line_end == b"\r" and found == expected[:-1])


def test_event_longer_than_the_limit_is_rejected() -> None:
    buffer = EventBuffer(limit=100)
    buffer.feed(b"data: " + b"x" * 90)
    with pytest.raises(ValueError, match="longer than 100 bytes"):
        buffer.feed(b"x" * 50)


@pytest.mark.parametrize("piece", [b"x", b"\n", b"\r", b"x\n", b"data: "])
def test_small_pieces_of_a_long_event_are_read_in_linear_time(piece: bytes) -> None:
    buffer = EventBuffer()
    began = time.process_time()
    for _ in range(200_000):
        buffer.feed(piece)
    buffer.feed(b"x" * 1_000_000)
    assert time.process_time() - began < 2


@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.text()
        | st.integers(-(10**40), 10**40)
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_json_values_stay_exact(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize("offset", range(6))
@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**40 + 7])
def test_long_integers_are_exact_wherever_they_stand(number: int, offset: int) -> None:
    assert loads(b'{"%b": %d, "b": [1]}' % (b"a" * offset, number)) == {"a" * offset: number, "b": [1]}


def test_long_digits_in_invalid_json_are_an_error() -> None:
    with pytest.raises(orjson.JSONDecodeError):
        loads(b"{" + b"1" * 30)
    assert loads(b'"' + b"1" * 30 + b'"') == "1" * 30
