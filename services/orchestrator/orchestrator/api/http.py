"""The server's side of a connection: uvicorn's protocol, but for our POST routes, served without ASGI.

ASGI costs as much as all the rest of a relayed request (docs/decisions/0007-post-routes-without-asgi.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .endpoint import Endpoint, Exchange


class HttpProtocol(HttpToolsProtocol):
    """Parses requests; those to `endpoints`, by path, become an `Exchange`, all others go to the ASGI app."""

    def __init__(self, *args: Any, endpoints: Mapping[bytes, Endpoint], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._endpoints = endpoints
        self._exchange: Exchange | None = None
        self._idle_since = 0.0

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        headers = dict(self.headers)
        self.expect_100_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        endpoint = self._endpoints.get(self.url) or self._endpoints.get(_path(self.url))
        if endpoint is None:
            self._exchange = None
            self._begin_scope()
            super().on_headers_complete()
            return
        waits = self.cycle is not None and not self.cycle.response_complete
        http_1_1 = self.parser.get_http_version() == "1.1"
        self.cycle = self._exchange = Exchange(  # type: ignore[assignment]
            endpoint,
            self,
            method=self.parser.get_method(),
            headers=headers,
            keep_alive=http_1_1 and self.parser.should_keep_alive(),
            chunked=http_1_1,
            expects_continue=self.expect_100_continue,
            general_headers=endpoint.general_headers(self.server_state.default_headers),
        )
        if waits:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._exchange.start()

    def _begin_scope(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers

    def on_body(self, body: bytes) -> None:
        if self._exchange is None:
            super().on_body(body)
        else:
            self._exchange.feed(body)

    def on_message_complete(self) -> None:
        if self._exchange is None:
            super().on_message_complete()
        else:
            self._exchange.feed_end()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        exchange = self.cycle
        if isinstance(exchange, Exchange):
            self.cycle = None  # type: ignore[assignment]
            exchange.lost()
        super().connection_lost(exc)
        # All three know this protocol: cycles, which the collector would find late.
        self.cycle = self._exchange = None  # type: ignore[assignment]
        del self.parser

    def on_response_complete(self) -> None:
        """uvicorn's, but for the timer of an idle connection: it is not set anew for each answer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.timeout_keep_alive_task is None:
            self._watch_idle(self.timeout_keep_alive)

    def _watch_idle(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self._close_if_idle)

    def _close_if_idle(self) -> None:
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if self.cycle is not None and not self.cycle.response_complete:
            self._watch_idle(self.timeout_keep_alive)
        elif left > 0.001:
            self._watch_idle(left)
        else:
            self.timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        """uvicorn asks for it at each request; the timer goes on, and looks when it is due."""

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Starts a request that was pipelined behind another, or any of the ASGI app."""
        if isinstance(cycle, Exchange):
            cycle.start()
        else:
            super()._start_asgi_task(cycle, app)


def _path(url: bytes) -> bytes:
    return unquote_to_bytes(urlsplit(url).path)
