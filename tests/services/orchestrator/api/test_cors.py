"""Access from web pages of other origins."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.support.browser import rendered
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


_SCRIPT = """<pre id="seen"></pre><script>(async () => {
const seen = [];
const ask = (headers) => fetch("{url}/v1/chat/completions", {
  method: "POST", headers: {"content-type": "application/json", ...headers},
  body: JSON.stringify({messages: [{role: "user", content: "x"}], stream: true})});
try {
  const answer = await ask({authorization: "Bearer {key}", "x-stainless-lang": "js"});
  const id = Boolean(answer.headers.get("x-request-id"));
  seen.push(answer.status, (await answer.text()).includes("Hello"), id);
  const refused = await ask({});
  seen.push(refused.status, (await refused.json()).error.code);
} catch (error) { seen.push(error.name); }
document.getElementById("seen").textContent = `seen: ${seen.join(" ")};`;
})();</script>"""


@pytest.mark.parametrize(
    ("origins", "seen"),
    [
        ("{page}", "200 true true 401 missing_api_key"),
        ("*", "200 true true 401 missing_api_key"),
        ("https://other.example", "TypeError"),
    ],
)
async def test_page_of_another_origin_in_a_browser(
    engine: ScriptedEngine, tmp_path: Path, origins: str, seen: str
) -> None:
    engine.otherwise = stream(*text("Hello"))
    page = ""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {len(page)}\r\n"
            writer.write(f"{head}connection: close\r\n\r\n{page}".encode())
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as pages:
        origin = f"http://127.0.0.1:{pages.sockets[0].getsockname()[1]}"
        async with live(engine.url, CORS_ORIGINS=origins.format(page=origin), BOOTSTRAP_API_KEY=KEY) as api:
            page = _SCRIPT.replace("{url}", api.url).replace("{key}", KEY)
            shown = await rendered(origin, tmp_path, milliseconds=8000)
    assert f"seen: {seen};" in shown
