"""A reply that cannot be written still ends: its connection closes, and it is no longer in flight."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.endpoint import Endpoint
from orchestrator.api.reply import Reply
from tests.support.live import Live, until
from tests.support.raw_http import CHAT, closed, connected, post, request
from tests.support.scripted_engine import ScriptedEngine, body, stream, text, whole

REQUESTS = {
    "relay": post(),
    "stream": post(stream=True),
    "loop": post(tools=[{"type": "function", "function": {"name": "calculate_math"}}]),
    "rejected method": request("PUT", CHAT, "Content-Length: 0"),
    "invalid body": request("POST", CHAT, "Content-Length: 1", body=b"x"),
    "too large": request("POST", CHAT, "Content-Length: 999999999"),
    "unknown route": request("GET", "/nowhere"),
    "not HTTP": b"\x16\x03\x01\r\n\r\n",
    "models": request("GET", "/v1/models"),
}


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("cannot be written")


@pytest.mark.patches_methods
@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("methods", [("_head",), ("whole",), ("fail",), ("whole", "fail", "_write", "end")])
async def test_reply_that_cannot_be_written_ends(
    server: Live, engine: ScriptedEngine, name: str, methods: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.otherwise = stream(*text("x")) if name == "stream" else whole("x")
    await until(lambda: bool(server.app._fleets.first.discovery.models))
    for method in methods:
        monkeypatch.setattr(Reply, method, broken)
    async with connected(server) as (reader, writer):
        writer.write(REQUESTS[name])
        if methods == ("fail",) and name in ("relay", "stream", "loop", "models"):
            return  # no error has to be written
        if methods == ("whole",) and name == "stream":
            return
        await closed(reader)
    assert len(server.server.in_flight) == 0


@pytest.mark.patches_methods
async def test_request_that_cannot_be_counted_ends(
    server: Live, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.otherwise = whole("x")
    monkeypatch.setattr(Endpoint, "finished", broken)
    for _ in range(2):
        assert (await server.chat()).status_code == 200
    assert len(server.server.in_flight) == 0


@pytest.mark.parametrize("value", ["\u20ac", "a\r\nx-injected: 1", "\x00"])
async def test_odd_header_of_an_engine_reaches_no_client_as_a_header_of_its_own(
    server: Live, engine: ScriptedEngine, value: str
) -> None:
    engine.otherwise = body({"error": {"message": "busy"}}, 503, retry_after=value)
    answer = await server.chat()
    assert answer.status_code in (502, 503)
    assert "x-injected" not in answer.headers
