"""A proxy that sends requests to several servers in turn, as a load balancer without stickiness does."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP_BY_HOP = ("host", "connection", "content-length", "transfer-encoding", "upgrade", "http2-settings")
_TIMEOUT = 300


@contextlib.contextmanager
def alternating(*urls: str) -> Iterator[str]:
    """Yields the URL of the proxy."""
    authorities = itertools.cycle([urlsplit(url).netloc for url in urls])
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            with lock:
                upstream = http.client.HTTPConnection(next(authorities), timeout=_TIMEOUT)
            kept = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            upstream.request("POST", self.path, body, kept)
            answer = upstream.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True
            while piece := answer.read1(65_536):
                self.wfile.write(piece)
                self.wfile.flush()
            upstream.close()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
