"""Lets containers reach a server of this machine that listens on 127.0.0.1 only."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar
from urllib.parse import urlsplit

from tests.support.containers.engine import Engine


class _Forwarder(socketserver.BaseRequestHandler):
    target: ClassVar[tuple[str, int]]

    def handle(self) -> None:
        with socket.create_connection(self.target) as there:
            back = threading.Thread(target=_pump, args=(there, self.request))
            back.start()
            _pump(self.request, there)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def forwarded(engine: Engine, network: str, url: str) -> Iterator[str]:
    """The URL at which containers of a network reach the server at `url`; no other machine does."""
    gateway = engine.api.networks.get(network).attrs["IPAM"]["Config"][0]["Gateway"]
    port = urlsplit(url).port
    assert port
    handler = type("Forwarder", (_Forwarder,), {"target": ("127.0.0.1", port)})
    with _Server((gateway, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{gateway}:{server.server_address[1]}"
        finally:
            server.shutdown()
