"""Listening sockets: accepts all waiting connections, and stops listening without losing a client.

Every time, all waiting connections are accepted. Under load, an iteration of the event loop handles
everything that has arrived on the open connections. If it accepted only one new connection, the last of 500
would wait for more than a second.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from ..telemetry import Telemetry

log = logging.getLogger("orchestrator.api")

_AT_ONCE = 256
_BACKLOG = 2048
_RETRY_SECONDS = 0.1
_LOG_SECONDS = 5.0
_HANDSHAKE_SECONDS = 0.1
_SO_ATTACH_FILTER = 26  # Linux
# A classic BPF program, socket(7): drops segments whose SYN flag is set, byte 13 of the TCP header.
_DROP_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
)


class Acceptor:
    """Accepts connections from `listeners` and creates a protocol for each of them.

    Args:
        relieve: closes idle connections if there are no files for new ones, and returns their number.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        protocol: Callable[[], asyncio.Protocol],
        telemetry: Telemetry,
        relieve: Callable[[], int] = lambda: 0,
    ) -> None:
        self._listeners = listeners
        self._protocol = protocol
        self._telemetry = telemetry
        self._relieve = relieve
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[Any]] = set()
        self._waiting: dict[socket.socket, asyncio.TimerHandle] = {}
        self._logged = -_LOG_SECONDS

    def start(self) -> None:
        for listener in self._listeners:
            listener.setblocking(False)
            listener.listen(_BACKLOG)
            self._loop.add_reader(listener, self._accept, listener)

    async def close(self, *, wait: bool) -> None:
        """Stops listening.

        Args:
            wait: also accept clients that are just connecting. Closing a listening socket resets connections
                that are established but not yet accepted, and a proxy cannot retry their requests elsewhere.
                New ones are dropped first: the client's kernel retries a second later and is then refused.
        """
        try:
            if wait:
                for listener in self._listeners:
                    _drop_new(listener)
                await asyncio.sleep(_HANDSHAKE_SECONDS)
        finally:
            for listener in self._listeners:
                self._accept(listener)
                self._loop.remove_reader(listener)
                listener.close()
            for timer in self._waiting.values():
                timer.cancel()
        if self._opening:
            await asyncio.wait(self._opening)

    def _accept(self, listener: socket.socket) -> None:
        try:
            for _ in range(_AT_ONCE):
                self._open(listener.accept()[0])
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # out of descriptors or memory: waiting connections stay in the queue
            self._fail(error)
            self._loop.remove_reader(listener)
            self._waiting[listener] = self._loop.call_later(
                _RETRY_SECONDS, self._loop.add_reader, listener, self._accept, listener
            )

    def _fail(self, error: OSError) -> None:
        self._telemetry.accept_failed(error.errno)
        closed = self._relieve() if error.errno in (errno.EMFILE, errno.ENFILE) else 0
        now = self._loop.time()
        if now >= self._logged + _LOG_SECONDS:
            self._logged = now
            log.error(
                "connections cannot be accepted",
                extra={"fields": {"reason": str(error), "closed_idle": closed}},
            )

    def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        opening = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._opening.add(opening)
        opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Task[Any]) -> None:
        self._opening.discard(opening)
        if not opening.cancelled() and not isinstance(opening.exception(), OSError | None):
            log.error("a connection could not be opened", exc_info=opening.exception())


def listen(host: str, port: int) -> list[socket.socket]:
    """Returns sockets that listen on each address of the host.

    Raises:
        OSError: an address cannot be used.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = dict.fromkeys((family, address) for family, _, _, _, address in found)
    return [
        socket.create_server(address[:2], family=family, backlog=_BACKLOG) for family, address in addresses
    ]


def _drop_new(listener: socket.socket) -> None:
    length = len(_DROP_SYN) // struct.calcsize("HBBI")
    try:
        import ctypes  # saves memory until the server stops

        program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
        pointer = struct.pack("HP", length, ctypes.addressof(program))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)
    except (OSError, ImportError) as error:  # not Linux: a client that connects at this moment may be reset
        log.info("new connections cannot be held back", extra={"fields": {"reason": str(error)}})
