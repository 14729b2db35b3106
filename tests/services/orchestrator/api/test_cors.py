"""Access from web pages of other origins, and what browsers ask before."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.live import Live, live
from tests.support.scripted_engine import ScriptedEngine, stream, text, whole

PAGE = "https://app.example.com"
KEY = "sk-0123456789abcdef"
CHAT = "/v1/chat/completions"
REQUEST = {"messages": [{"role": "user", "content": "x"}]}
# What the official client sends from a browser.
ASKED = "authorization,content-type,x-stainless-arch,x-stainless-lang"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": ASKED}


@pytest.fixture(params=[PAGE, f"http://localhost:5173,{PAGE}", "*"])
async def open_server(request: pytest.FixtureRequest, engine: ScriptedEngine) -> AsyncIterator[Live]:
    async with live(engine.url, CORS_ORIGINS=request.param, BOOTSTRAP_API_KEY=KEY) as running:
        yield running


async def test_cors_is_off_by_default(server: Live, engine: ScriptedEngine) -> None:
    asked = await server.http.options(CHAT, headers={"origin": PAGE, **PREFLIGHT})
    assert asked.status_code == 405
    engine.play(whole("ok"))
    answer = await server.http.post(CHAT, json=REQUEST, headers={"origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "vary" not in answer.headers


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/models/x", "/chat/completions", "/v1/responses/"])
async def test_preflight_needs_no_key(open_server: Live, path: str) -> None:
    asked = await open_server.http.options(path, headers={"origin": PAGE, **PREFLIGHT})
    assert (asked.status_code, asked.content) == (204, b"")
    assert asked.headers["access-control-allow-origin"] in (PAGE, "*")
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert asked.headers["access-control-allow-headers"] == ASKED
    assert int(asked.headers["access-control-max-age"]) > 0
    assert "access-control-allow-credentials" not in asked.headers


async def test_answers_can_be_read_by_the_page(open_server: Live, engine: ScriptedEngine) -> None:
    headers = {"origin": PAGE, "authorization": f"Bearer {KEY}"}
    engine.play(whole("ok"), stream(*text("ok")))
    for request in (REQUEST, {**REQUEST, "stream": True}, {}):
        answer = await open_server.http.post(CHAT, json=request, headers=headers)
        assert answer.headers["access-control-allow-origin"] in (PAGE, "*")
        assert answer.headers["access-control-expose-headers"] == "*"
    refused = await open_server.http.post(CHAT, json=REQUEST, headers={"origin": PAGE})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] in (PAGE, "*")


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "https://app.example.com.evil.example", "http://app.example.com", "null"],
)
async def test_other_origins_have_no_access(engine: ScriptedEngine, origin: str) -> None:
    async with live(engine.url, CORS_ORIGINS=PAGE) as server:
        asked = await server.http.options(CHAT, headers={"origin": origin, **PREFLIGHT})
        assert asked.status_code == 403
        assert origin in asked.json()["error"]["message"]
        engine.play(whole("ok"))
        answer = await server.http.post(CHAT, json=REQUEST, headers={"origin": origin})
        for one in (asked, answer):
            assert "access-control-allow-origin" not in one.headers
            assert one.headers["vary"] == "origin"


@pytest.mark.parametrize("names", ["a b", "x\u00e9", "a:b", ""])
async def test_only_names_are_repeated_in_a_preflight(open_server: Live, names: str) -> None:
    headers = {b"origin": PAGE.encode(), b"access-control-request-method": b"POST"}
    headers[b"access-control-request-headers"] = names.encode("latin-1")
    asked = await open_server.http.options(CHAT, headers=headers)
    assert asked.status_code == 204
    assert "access-control-allow-headers" not in asked.headers


async def test_options_without_a_preflight_is_not_allowed(open_server: Live) -> None:
    assert (await open_server.http.options(CHAT)).status_code == 405
    unknown = await open_server.http.options("/nowhere", headers={"origin": PAGE, **PREFLIGHT})
    assert unknown.status_code == 404
