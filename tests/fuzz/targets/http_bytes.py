"""HTTP bytes: mutated requests, sixteen connections at a time.

Every connection gets at least one answer, is closed in time, and only sees valid HTTP with errors in OpenAI's
shape. The engine gets no request for which the client sent no key.
"""

from __future__ import annotations

import asyncio

from hypothesis import strategies as st

from tests.fuzz.engine_replies import good
from tests.fuzz.mutate import Edit, edits, mutated, pieces
from tests.fuzz.rig import KEY, Answer, Failure, Meter, Rig, check_error
from tests.fuzz.target import Case, Target
from tests.support.raw_http import post, post_in_chunks, request

_BEARER = f"Authorization: Bearer {KEY}"
_UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAI")
_HIDDEN = "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
_NOT_IMPLEMENTED = frozenset({501})  # RFC 9112, 6.1: for a transfer coding that the server does not know
_END = request("GET", "/health", "Connection: close")
BASES = (
    post("Hi", _BEARER),
    post("Hi", _BEARER, *_UPGRADE),
    post("Hi", f"X-API-Key: {KEY}", stream=True),
    post("Hi"),
    post(_HIDDEN, _BEARER, "Expect: 100-continue"),
    post_in_chunks("Hi", _BEARER),
    post_in_chunks(_HIDDEN, _BEARER, *_UPGRADE, size=40, end=b"0\r\nTrailer: x\r\n\r\n"),
    post_in_chunks("Hi", end=f"0\r\n{_BEARER}\r\n\r\n".encode()),
    request("GET", "/v1/models") + post("Hi", _BEARER) + request("GET", "/ready"),
    request("GET", "/metrics", "Connection: keep-alive", version="1.0"),
    request("OPTIONS", "/v1/chat/completions", "Origin: https://x", "Access-Control-Request-Method: POST"),
    request("OPTIONS", "*") + request("GET", "/docs"),
    request("CONNECT", "example.com:443") + post("Hi", _BEARER),
)
TOKENS = (
    "\r\n", "\n", "\r", "\0", " ", "\t", ":", ";", ",", "/", "%2f", "%", "?", "#", "\xff", "0", "-1", "+1",
    "0x1", "99999999999999999999", "\r\n\r\n", "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding:\x0bchunked\r\n", "Content-Length: 0\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length: 1,1\r\n", "Connection: close\r\n",
    "Upgrade: websocket\r\n", "Host: y\r\n", "\r\n folded", "chunked", "HTTP/1.0", "HTTP/2.0", "HTTP/1.1",
    "ffffffffffffffff", "1\r\nx\r\n", "0\r\n\r\n", ";ext=\"", f"{_BEARER}\r\n",
    "Content-Encoding: gzip\r\n", "Content-Encoding: zstd, br\r\n", "Origin: https://x\r\n",
    "x" * 300, "X: y\r\n" * 60,
)  # fmt: skip


def _connection(base: bytes, changes: list[Edit], cuts: list[int]) -> Case:
    return {"data": (mutated(base, changes) + _END).decode("latin-1"), "cuts": cuts}


_CASES = st.fixed_dictionaries(
    {
        "connections": st.lists(
            st.builds(
                _connection,
                st.sampled_from(BASES),
                edits(TOKENS),
                st.lists(st.integers(0, 1000), max_size=3),
            ),
            min_size=1,
            max_size=16,
        )
    }
)


def check(rig: Rig, case: Case) -> None:
    meter = Meter(rig)
    rig.run(_play(rig, case["connections"]))
    meter.check()


async def _play(rig: Rig, connections: list[Case]) -> None:
    rig.engine.otherwise = good
    rig.asked()
    sent = [connection["data"].encode("latin-1") for connection in connections]
    parts = [pieces(data, one["cuts"]) for data, one in zip(sent, connections, strict=True)]
    for received in await asyncio.gather(*(rig.send(*part) for part in parts)):
        _check_answers(received)
    keys = sum(data.count(KEY.encode()) for data in sent)
    asked = len(rig.asked())
    if asked > keys:
        raise Failure(f"the engine got {asked} requests, but the clients sent {keys} keys")


def _check_answers(answers: list[Answer]) -> None:
    for answer in answers:
        if not answer.whole:
            raise Failure(f"an answer ends early: {answer.body[-300:]!r}")
        if "x-request-id" not in answer.headers:
            raise Failure(f"no request id: {answer.headers}")
        if answer.status >= 400:
            check_error(answer, _NOT_IMPLEMENTED)


TARGET = Target("http_bytes", _CASES, check)
