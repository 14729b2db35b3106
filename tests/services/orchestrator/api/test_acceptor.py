"""Many clients that connect at the same time."""

from __future__ import annotations

import asyncio
import re
import resource
import socket
from contextlib import ExitStack

import pytest

from orchestrator.api.server import Server
from tests.support.live import Live, live, until
from tests.support.scripted_engine import ScriptedEngine

CLIENTS = 200


def connect(server: Live, stack: ExitStack, count: int) -> list[socket.socket]:
    """Blocks the server's event loop meanwhile, so that all clients wait to be accepted."""
    return [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(count)]


def accepted(server: Server) -> int:
    return len(server.connections)


async def test_all_waiting_connections_are_accepted_together(server: Live) -> None:
    with ExitStack() as stack:
        connect(server, stack, CLIENTS)
        for _ in range(10):  # iterations of the loop: libuv by itself accepts one in each
            await asyncio.sleep(0)
        assert accepted(server.server) == CLIENTS


async def test_connections_accepted_together_are_all_served(server: Live) -> None:
    with ExitStack() as stack:
        clients = connect(server, stack, 20)
        for client in clients:
            client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            client.setblocking(False)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            answers = [await loop.sock_recv(client, 4096) for client in clients]
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        transports = [connection.transport for connection in server.server.connections]
        options = [
            transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for transport in transports
        ]
        assert options == [1] * 20


async def test_clients_that_have_left_do_no_harm(server: Live) -> None:
    with ExitStack() as stack:
        for client in connect(server, stack, 20):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close by RST
    await until(lambda: accepted(server.server) == 0)
    assert (await server.http.get("/health")).status_code == 200


async def test_client_that_connects_while_the_server_stops_is_served(engine: ScriptedEngine) -> None:
    async with live(engine.url, DRAIN_SECONDS="0.001", STOP_SECONDS="2") as server:
        with ExitStack() as stack:
            server.server.stop()
            clients = connect(server, stack, 50)  # blocks the loop: they wait in the kernel's queue
            loop = asyncio.get_running_loop()
            for client in clients:
                client.setblocking(False)
                await loop.sock_sendall(client, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(10):
                answers = [await loop.sock_recv(client, 4096) for client in clients]
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert all(b"connection: close" in answer for answer in answers)


async def test_stopped_server_accepts_no_connections(engine: ScriptedEngine) -> None:
    async with live(engine.url) as server:
        port = server.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


async def test_server_accepts_again_after_running_out_of_files(
    server: Live, caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        clients = connect(server, stack, 5)
        highest = max(client.fileno() for client in clients)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 3, hard))
        try:
            await until(lambda: "connections cannot be accepted" in caplog.text)
            assert accepted(server.server) < 5
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await until(lambda: accepted(server.server) == 5)
        assert (await server.http.get("/health")).status_code == 200
    assert re.search(r'accept_failures_total{reason="EMFILE"} [1-9]', await server.metrics())
    assert caplog.text.count("connections cannot be accepted") == 1


async def test_idle_connections_make_room_for_new_ones(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that stay connected without a request must not lock out everybody else."""
    monkeypatch.setattr("orchestrator.api.connections._RELIEF_IDLE_SECONDS", 0.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        idle = connect(server, stack, 20)
        await until(lambda: accepted(server.server) == 20)
        clients = [stack.enter_context(socket.socket()) for _ in range(5)]
        highest = max(file.fileno() for file in clients)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        try:
            for client in clients:
                client.connect(("127.0.0.1", server.port))
                client.setblocking(False)
                client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(10):
                answers = [await loop.sock_recv(client, 4096) for client in clients]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        del idle
