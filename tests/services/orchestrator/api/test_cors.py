"""Access from web pages of other origins."""

from __future__ import annotations

import pytest

from tests.support.live import Live, live
from tests.support.scripted_engine import ScriptedEngine, stream, text, whole

from .browser import CHAT, KEY, PAGE, PREFLIGHT

REQUEST = {"messages": [{"role": "user", "content": "x"}]}


async def test_cors_is_off_by_default(server: Live, engine: ScriptedEngine) -> None:
    asked = await server.http.options(CHAT, headers={"origin": PAGE, **PREFLIGHT})
    assert asked.status_code == 405
    engine.play(whole("ok"))
    answer = await server.http.post(CHAT, json=REQUEST, headers={"origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "vary" not in answer.headers


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
