"""One HTTP/1.1 connection to an engine, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator.connection import Connection, ConnectionBroken

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"


class Peer:
    """The other end of the connection."""

    def __init__(self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.connection = connection
        self.reader = reader
        self.writer = writer

    async def answer(self, *pieces: bytes) -> None:
        """Sends a request over the connection, reads it here and sends the answer in these pieces."""
        self.connection.send(REQUEST)
        assert await self.reader.readexactly(len(REQUEST)) == REQUEST
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    accepted = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda r, w: accepted.set_result((r, w)), "127.0.0.1", 0)
    connection = await Connection.open("127.0.0.1", server.sockets[0].getsockname()[1])
    reader, writer = await accepted
    yield Peer(connection, reader, writer)
    connection.abort()
    writer.close()
    server.close()


async def everything(connection: Connection) -> bytes:
    await connection.head()
    body = b""
    while piece := await connection.read():
        body += piece
    return body


@pytest.mark.parametrize(
    "framed",
    [
        b"content-length: 5\r\n\r\nhello",
        b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ],
)
async def test_body_is_read_and_the_connection_is_reusable(peer: Peer, framed: bytes) -> None:
    for _ in range(2):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nretry-after: 7\r\n"
        await peer.answer(head[:10], head[10:] + framed)
        assert await everything(peer.connection) == b"hello"
        assert (peer.connection.status, peer.connection.content_type) == (200, b"text/plain")
        assert peer.connection.retry_after == b"7"
        assert peer.connection.reusable


async def test_informational_response_is_skipped(peer: Peer) -> None:
    await peer.answer(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert await everything(peer.connection) == b"ok"
    assert peer.connection.status == 200


async def test_connection_that_closes_after_the_answer_is_not_reusable(peer: Peer) -> None:
    await peer.answer(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
    assert await everything(peer.connection) == b"ok"
    assert not peer.connection.reusable


async def test_body_without_a_length_ends_when_the_connection_closes(peer: Peer) -> None:
    await peer.answer(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    peer.writer.close()
    assert await everything(peer.connection) == b"all of it"
    assert not peer.connection.reusable


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "closed by the server"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", "closed by the server"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n", "closed by the server"),
        (b"220 smtp.example.com\r\n", "not HTTP"),
    ],
)
async def test_answer_that_ends_early_breaks_the_connection(peer: Peer, sent: bytes, reason: str) -> None:
    await peer.answer(sent)
    peer.writer.close()
    with pytest.raises(ConnectionBroken, match=reason):
        await everything(peer.connection)
    assert peer.connection.broken
    with pytest.raises(ConnectionBroken):
        peer.connection.send(REQUEST)


async def test_unrequested_data_closes_the_connection(peer: Peer) -> None:
    await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert await everything(peer.connection) == b"ok"
    peer.writer.write(b"HTTP/1.1 200 OK\r\n")
    assert await asyncio.wait_for(peer.reader.read(), 5) == b""
    assert not peer.connection.reusable


async def test_abort_closes_the_connection_at_once(peer: Peer) -> None:
    await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
    await peer.connection.head()
    peer.connection.abort()
    with pytest.raises(ConnectionBroken, match="closed by us"):
        await everything(peer.connection)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(peer.reader.readexactly(1), 5)


ONE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


@pytest.mark.parametrize("second", [ONE + b"no", ONE, b"HTTP/1.1 200", b"H", b"HTTP/1.1 500 No\r\n\r\n"])
async def test_two_answers_to_one_request_break_the_connection(peer: Peer, second: bytes) -> None:
    await peer.answer(ONE + b"ok" + second)
    with pytest.raises(ConnectionBroken, match="two answers"):
        await everything(peer.connection)
    assert not peer.connection.reusable
    assert await asyncio.wait_for(peer.reader.read(), 5) == b""


async def test_second_answer_that_has_arrived_is_seen_before_the_connection_is_used_again(peer: Peer) -> None:
    await peer.answer(ONE + b"ok")
    assert await everything(peer.connection) == b"ok"
    assert not peer.connection.has_unread_data()
    assert peer.connection._transport
    peer.connection._transport.pause_reading()
    peer.writer.write(ONE + b"no")
    await peer.writer.drain()
    assert peer.connection.reusable
    assert peer.connection.has_unread_data()


async def test_switch_of_protocols_breaks_the_connection(peer: Peer) -> None:
    await peer.answer(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc")
    with pytest.raises(ConnectionBroken, match="another protocol"):
        await everything(peer.connection)
