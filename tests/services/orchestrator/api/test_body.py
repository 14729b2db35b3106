"""Bodies may arrive in any parts, and end where llhttp and h11 say that they end."""

from __future__ import annotations

from itertools import pairwise

import h11
import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.api.body import Body, ChunkedBody, body_of
from orchestrator.api.head import Head
from orchestrator.errors import InvalidRequest

CHUNKED_HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nhost: x\r\n\r\n"


def in_chunks(parts: list[bytes], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    chunks = [b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts if part]
    return b"".join(chunks) + b"0\r\n" + trailers + b"\r\n"


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def head(**fields: str) -> Head:
    made = Head(b"POST", b"/")
    made.headers = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}
    return made


def read(body: Body | ChunkedBody, data: list[bytes]) -> tuple[bytes, bytes]:
    """Returns the content and what follows it."""
    rest = b""
    for piece in data:
        if body.whole:
            rest += piece
        else:
            rest += piece[body.feed(piece) :]
    assert body.whole
    return body.content, rest


@given(st.binary(max_size=300), st.lists(st.integers(1, 400)))
def test_body_with_a_length_may_arrive_in_any_parts(content: bytes, cuts: list[int]) -> None:
    data = pieces(content + NEXT, cuts)
    assert read(Body(len(content)), data) == (content, NEXT)


@given(
    st.lists(st.binary(max_size=40), max_size=8),
    st.sampled_from([b"", b";a", b";a=b", b' ;a="b;c"']),
    st.sampled_from([b"", b"x: y\r\n", b"x: y\r\nauthorization: z\r\n"]),
    st.lists(st.integers(1, 400)),
)
def test_chunked_body_may_arrive_in_any_parts(
    parts: list[bytes], extension: bytes, trailers: bytes, cuts: list[int]
) -> None:
    data = pieces(in_chunks(parts, extension, trailers) + NEXT, cuts)
    assert read(ChunkedBody(10_000), data) == (b"".join(parts), NEXT)


def by_llhttp(data: bytes) -> list[bytes]:
    """Returns the complete bodies of the requests that llhttp finds in `data`."""
    found: list[bytes] = []

    class Reader:
        body = b""

        def on_body(self, part: bytes) -> None:
            self.body += part

        def on_message_complete(self) -> None:
            found.append(self.body)
            self.body = b""

    httptools.HttpRequestParser(Reader()).feed_data(data)
    return found


def by_h11(data: bytes) -> tuple[bytes, bytes]:
    other = h11.Connection(h11.SERVER)
    other.receive_data(data)
    body = b""
    while True:
        event = other.next_event()
        if isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return body, other.trailing_data[0]
        elif not isinstance(event, h11.Request):
            raise AssertionError(event)


# The bytes that occur in chunks, in any order, between valid parts.
WILD = st.lists(
    st.sampled_from(
        [
            b"1", b"3", b"0", b"a", b"\r\n", b"\n", b"\r", b";", b"x: y", b"abc", b" ", b"\t", b"0\r\n\r\n",
            b"3\r\nabc\r\n",
        ]
    ),
    max_size=14,
).map(b"".join)  # fmt: skip


@given(WILD)
@example(b"0\r\nx: y\n\n")
@example(b"3\nabc\n0\n\n")
@example(b"3\r\nabc0\r\n\r\n")
@example(b"3;\n\r\nabc\r\n0\r\n\r\n")
def test_accepted_bodies_are_the_same_for_other_parsers(wild: bytes) -> None:
    """A proxy that is as strict as the standard sees the same body and the same next request."""
    data = wild + b"0\r\n\r\n" + NEXT
    body = ChunkedBody(10_000)
    try:
        end = body.feed(data)
    except InvalidRequest:
        return
    if not body.whole:
        return
    content = body.content
    assert by_llhttp(CHUNKED_HEAD + data[:end]) == [content]
    assert by_h11(CHUNKED_HEAD + data[:end]) == (content, b"")


def test_chunk_over_the_limit_is_rejected_before_it_arrives() -> None:
    with pytest.raises(InvalidRequest) as raised:
        ChunkedBody(10).feed(b"5\r\nabcde\r\n6\r\n")
    assert raised.value.status == 413


def test_framing_is_read_from_the_head() -> None:
    assert body_of(head(), 10).whole
    assert body_of(head(content_length="0"), 10).whole
    assert not body_of(head(content_length=" 3 "), 10).whole
    assert isinstance(body_of(head(transfer_encoding="Chunked "), 10), ChunkedBody)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"content_length": "-1"}, 400),
        ({"content_length": ""}, 400),
        ({"content_length": "1" * 19}, 400),
        ({"content_length": "3", "transfer_encoding": "chunked"}, 400),
        ({"transfer_encoding": "gzip, chunked"}, 501),
        ({"transfer_encoding": "identity"}, 501),
    ],
)
def test_invalid_framing_is_rejected(fields: dict[str, str], status: int) -> None:
    with pytest.raises(InvalidRequest) as raised:
        body_of(head(**fields), 10)
    assert raised.value.status == status


def test_chunked_body_in_http_1_0_is_rejected() -> None:
    old = head(transfer_encoding="chunked")
    old.http_1_1 = False
    with pytest.raises(InvalidRequest):
        body_of(old, 10)


def test_chunks_of_one_byte_are_limited() -> None:
    """A chunk takes 2 µs, so a body of 8 MiB in such chunks would stop everybody for 18 s."""
    body = ChunkedBody(8_388_608)
    body.feed(b"1\r\nx\r\n" * 16_000)
    with pytest.raises(InvalidRequest, match="larger chunks"):
        body.feed(b"1\r\nx\r\n" * 1000)
    usual = ChunkedBody(8_388_608)
    usual.feed(b"80\r\n" + b"x" * 128 + b"\r\n", 0)
    for _ in range(60_000):
        usual.feed(b"80\r\n" + b"x" * 128 + b"\r\n")
