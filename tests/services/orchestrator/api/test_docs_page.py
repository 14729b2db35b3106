"""The API page, which works without internet."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.browser import rendered
from tests.support.live import Live, live
from tests.support.scripted_engine import ScriptedEngine

FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")


async def test_page_refers_to_this_server_only(server: Live) -> None:
    page = await server.http.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    references = re.findall(r"""(?:src|href)="([^"]+)"|url: '([^']+)'""", page.text)
    paths = {one or other for one, other in references}
    assert {"openapi.json", *(f"docs/{name}" for name in FILES)} == paths
    for path in paths:
        assert (await server.http.get(f"/{path}")).status_code == 200


async def test_other_files_do_not_exist(server: Live) -> None:
    for path in ("/docs/LICENSE", "/docs/../docs_page.py", "/docs/%2e%2e/docs_page.py", "/docs/x/y"):
        answer = await server.http.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_route")


async def test_browser_without_internet_shows_routes_and_the_authorize_button(
    engine: ScriptedEngine, tmp_path: Path
) -> None:
    async with live(engine.url, BOOTSTRAP_API_KEY="a-long-secret-key") as server:
        shown = await rendered(
            f"{server.url}/docs", tmp_path, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        )
    text = re.sub(r"<wbr/?>|\u200b", "", shown)
    for expected in ("Authorize", "/v1/chat/completions", "/v1/tools"):
        assert expected in text, expected
