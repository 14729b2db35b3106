"""Heads: what is parsed, what is rejected, and that other parsers see the same request."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.head import Head, may_become_head, parse_head
from orchestrator.errors import InvalidRequest

START = b"POST /v1/chat/completions HTTP/1.1\r\n"
TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_!#", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)


def test_fields_are_read_unchanged_with_names_in_lower_case() -> None:
    head = parse_head(START + b"HOST: x\r\nX-Two:  a b \r\nX-Two: \xc3\xa9\r\nEmpty:\r\n\r\n")
    assert (head.method, head.target, head.http_1_1) == (b"POST", b"/v1/chat/completions", True)
    assert [name for name, _ in head.fields] == [b"host", b"x-two", b"x-two", b"empty"]
    assert (head.headers[b"x-two"], head.headers[b"empty"]) == (b"\xc3\xa9", b"")


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=20))
def test_heads_are_the_same_for_h11(fields: list[tuple[str, str]]) -> None:
    lines = [f"{name}: {value}\r\n".encode() for name, value in fields]
    data = START + b"host: x\r\n" + b"".join(lines) + b"\r\n"
    other = h11.Connection(h11.SERVER)
    other.receive_data(data)
    try:
        expected = other.next_event()
    except h11.RemoteProtocolError:
        return
    assert isinstance(expected, h11.Request)
    try:
        head = parse_head(data)
    except InvalidRequest:
        return  # stricter
    assert (head.method, head.target) == (expected.method, expected.target)
    assert [(name, value.strip()) for name, value in head.fields] == list(expected.headers)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: x\n\n\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\n\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: x\ry\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: \x0bchunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: a\r\nx-api-key: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET / ICE/1.0\r\nHost: x\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /other HTTP/1.1\r\nHost: y\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_ambiguous_head_is_rejected(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_head(data)


@pytest.mark.parametrize(
    ("fields", "version", "keeps"),
    [
        (b"", b"1", True),
        (b"Connection: close\r\n", b"1", False),
        (b"Connection: TE,  CLOSE\r\n", b"1", False),
        (b"Connection: close\r\nConnection: keep-alive\r\n", b"1", False),
        (b"Connection: keep-alive, x-close\r\n", b"1", True),
        (b"Connection: keep-alive\r\n", b"0", False),
    ],
)
def test_keep_alive_follows_version_and_connection_field(fields: bytes, version: bytes, keeps: bool) -> None:
    data = b"GET / HTTP/1." + version + b"\r\nHost: x\r\n" + fields + b"\r\n"
    assert parse_head(data).keep_alive is keeps


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a/b?c=d", b"/a/b"),
        (b"/a%2Fb%20c", b"/a/b c"),
        (b"//host/a", b"//host/a"),
        (b"http://host:80/a?b", b"/a"),
        (b"HTTPS://host", b"/"),
        (b"http://host?b", b"/"),
    ],
)
def test_path_is_taken_from_the_target(target: bytes, path: bytes) -> None:
    assert Head(b"GET", target).path == path


@pytest.mark.parametrize("target", [b"*", b"host:80", b"ftp://host/", b"/a#b", b"http:///a", b"a"])
def test_target_without_a_path_is_rejected(target: bytes) -> None:
    with pytest.raises(InvalidRequest):
        _ = Head(b"GET", target).path


@given(st.integers(1, 40))
def test_every_prefix_of_a_head_may_become_a_head(size: int) -> None:
    assert may_become_head(START[:size])


@pytest.mark.parametrize("data", [b"\x16\x03\x01", b"get ", b"GET/ ", b"A" * 21, b"\x00", b" GET / HTTP/1.1"])
def test_other_protocols_cannot_become_a_head(data: bytes) -> None:
    assert not may_become_head(data)
