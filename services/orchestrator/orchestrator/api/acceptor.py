"""Connections that come together are taken together.

libuv accepts one connection in each iteration of the event loop (github.com/libuv/libuv/pull/3696). Under
load an iteration answers all that has come on the others before, so that of 500 new clients the last would
wait for more than a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

from .http import HttpProtocol

_AT_ONCE = 256


class Acceptor:
    """Makes the protocol of each connection that the event loop accepts, and accepts what waits behind it.

    Args:
        protocol: makes one, given uvicorn's keyword arguments.
    """

    def __init__(self, protocol: Callable[..., HttpProtocol]) -> None:
        self._protocol = protocol
        self._listeners: list[socket.socket] = []
        self._opening: set[asyncio.Task[Any]] = set()

    def listen(self, descriptor: int) -> None:
        """From now on, takes what waits at this listening socket too."""
        self._listeners.append(socket.socket(fileno=os.dup(descriptor)))

    def close(self) -> None:
        """Listens no more; otherwise the kernel would go on to take connections for us."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def __call__(self, **arguments: Any) -> HttpProtocol:
        for listener in self._listeners:
            # None waits (BlockingIOError), or files have run out, which the loop's own accept tells.
            with contextlib.suppress(OSError):
                for _ in range(_AT_ONCE):
                    self._open(listener.accept()[0], arguments)
        return self._protocol(**arguments)

    def _open(self, connection: socket.socket, arguments: dict[str, Any]) -> None:
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        opening = loop.create_task(
            loop.connect_accepted_socket(lambda: self._protocol(**arguments), connection)
        )
        self._opening.add(opening)
        opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Task[Any]) -> None:
        self._opening.discard(opening)
        if not opening.cancelled():
            opening.exception()  # the client has left again
