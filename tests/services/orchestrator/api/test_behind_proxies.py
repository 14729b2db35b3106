"""Behind nginx and HAProxy, each client gets the answer to its own request, whatever another one sends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live import Live, live
from tests.support.proxies import PROXIES, install, proxy
from tests.support.raw_http import CHAT, answer, connected, post, request
from tests.support.scripted_engine import ScriptedEngine, whole

VICTIMS = 8
HIDDEN_ID = "hidden-request"
HIDDEN = f"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Request-Id: {HIDDEN_ID}\r\n"
# Behind its own request, the attacker hides a whole request; one with an open field, which takes in the next
# client's request line; one with an open body. Padded with line ends, which a parser reads over before a
# request, so that it does not matter where a proxy or the kernel cuts the body into segments.
BODIES = {
    "whole": f"{HIDDEN}\r\n",
    "open header": f"{HIDDEN}X-Ignored: ",
    "open body": f"{HIDDEN.replace('GET', 'POST')}Content-Length: 300\r\n\r\n",
}
PADDINGS = ("", "\r\n" * 200_000)
LENGTH = "Content-Length: {length}"
CHUNKS = "Transfer-Encoding: chunked"
FRAMINGS = {
    "no trick": (LENGTH,),
    "websocket": (LENGTH, "Connection: Upgrade", "Upgrade: websocket"),
    "h2c": (
        LENGTH,
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABk",
    ),
    "expect": (LENGTH, "Expect: 100-continue"),
    "length and chunks": (LENGTH, CHUNKS),
    "chunks and length": (CHUNKS, LENGTH),
    "spaced name": (LENGTH, "Transfer-Encoding : chunked"),
    "tab in value": (LENGTH, "Transfer-Encoding:\tchunked"),
    "vertical tab": (LENGTH, "Transfer-Encoding: \x0bchunked"),
    "other coding": (LENGTH, "Transfer-Encoding: xchunked"),
    "two codings": (LENGTH, "Transfer-Encoding: identity", CHUNKS),
    "folded": (LENGTH, "Transfer-Encoding:\r\n chunked"),
    "two lengths": ("Content-Length: 0", LENGTH),
    "list of lengths": ("Content-Length: 0, {length}",),
    "signed length": ("Content-Length: +{length}",),
    "underscore": ("Content_Length: 0", LENGTH),
    "bare line feed": (LENGTH + "\nTransfer-Encoding: chunked",),
}
METHODS = ("POST", "CONNECT")


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    install()


@pytest.fixture(params=PROXIES)
def port(request: pytest.FixtureRequest, server: Live, tmp_path: Path) -> Iterator[int]:
    with proxy(request.param, [server.port], tmp_path) as port:
        yield port


async def ask(port: int, name: str, path: str = "/v1/models/victim") -> None:
    """One request of a victim; its answer must be its own."""
    async with connected(port) as (reader, writer):
        writer.write(request("GET", path, f"X-Request-Id: {name}"))
        own = await answer(reader)
    assert own.headers["x-request-id"] == name
    assert own.status == 404
    assert b"victim" in own.body


async def attack(port: int, method: str, fields: tuple[str, ...], body: str) -> bytes:
    """Sends one request that hides another, its body in a segment of its own; what comes back in a moment."""
    lines = [field.format(length=len(body)) for field in fields]
    sent = body if "chunked" not in str(fields) else f"0\r\n\r\n{body}"
    received = b""
    async with connected(port) as (reader, writer):
        with contextlib.suppress(TimeoutError, ConnectionError):
            writer.write(request(method, CHAT, *lines))
            await asyncio.sleep(0.02)
            writer.write(sent.encode("latin-1"))
            async with asyncio.timeout(0.15):
                while part := await reader.read(65_536):
                    received += part
    return received


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_no_request_is_answered_with_the_answer_to_another(
    server: Live, port: int, framing: str, caplog: pytest.LogCaptureFixture
) -> None:
    attacks = itertools.product(METHODS, PADDINGS, BODIES.values())
    for number, (method, padding, body) in enumerate(attacks):
        received = await attack(port, method, FRAMINGS[framing], padding + body)
        assert HIDDEN_ID.encode() not in received
        assert b"requests_total" not in received
        # As many at once as there may be connections that the proxy keeps.
        await asyncio.gather(*[ask(port, f"victim-{number}-{one}") for one in range(VICTIMS)])
    assert 'route="/metrics"' not in await server.metrics()
    assert HIDDEN_ID not in caplog.text


async def test_upgrade_and_a_body_reach_the_engine_whole(
    server: Live, engine: ScriptedEngine, port: int
) -> None:
    engine.otherwise = whole("served")
    for fields in (FRAMINGS["h2c"][1:], FRAMINGS["websocket"][1:]):
        async with connected(port) as (reader, writer):
            for content in ("first", "second"):
                writer.write(post(content, *fields))
                assert (await answer(reader)).content == "served"
    assert [one.json["messages"][0]["content"] for one in engine.requests] == ["first", "second"] * 2


async def test_strict_haproxy_accepts_every_answer(
    server: Live, engine: ScriptedEngine, tmp_path: Path
) -> None:
    """Our answers: what a strict proxy would reject becomes its own 502."""
    engine.otherwise = whole("served")
    with proxy("haproxy", [server.port], tmp_path) as port:
        for sent in (request("HEAD", "/health"), request("GET", "/docs"), post(), post(stream=True)):
            async with connected(port) as (reader, writer):
                writer.write(sent)
                got = await answer(reader, head_only=sent.startswith(b"HEAD"))
                assert got.status == 200


async def test_key_is_not_taken_from_a_trailer_that_a_proxy_passes_on(
    engine: ScriptedEngine, tmp_path: Path
) -> None:
    async with live(engine.url, BOOTSTRAP_API_KEY="a-long-secret-key") as server:
        for name in PROXIES:
            with proxy(name, [server.port], tmp_path) as port:
                async with connected(port) as (reader, writer):
                    trailer = "2\r\n{}\r\n0\r\nX-API-Key: a-long-secret-key\r\n\r\n"
                    writer.write(request("POST", CHAT, CHUNKS, body=trailer.encode()))
                    assert (await answer(reader)).status == 401
