"""The API page, which works without internet."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest

from orchestrator.api import docs_page
from tests.support.browser import rendered
from tests.support.live import Live, live
from tests.support.scripted_engine import ScriptedEngine

DIRECTORY = Path(docs_page.__file__).parent / "swagger_ui"


async def test_page_refers_to_this_server_only(server: Live) -> None:
    page = await server.http.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    references = re.findall(r"""(?:src|href)="([^"]+)"|url: '([^']+)'""", page.text)
    paths = {one or other for one, other in references}
    assert {f"docs/{name}" for name in docs_page.FILES} | {"openapi.json"} == paths
    for path in paths:
        assert (await server.http.get(f"/{path}")).status_code == 200


@pytest.mark.parametrize("name", docs_page.FILES)
async def test_files_are_compressed_for_those_who_accept_it(server: Live, name: str) -> None:
    compressed = await server.http.get(f"/docs/{name}")
    plain = await server.http.get(f"/docs/{name}", headers={"accept-encoding": "identity"})
    assert compressed.headers["content-type"] == docs_page.FILES[name]
    assert compressed.content == plain.content
    assert "content-encoding" not in plain.headers
    if not name.endswith(".png"):
        assert compressed.headers["content-encoding"] == "gzip"
        assert int(compressed.headers["content-length"]) < len(plain.content) / 3


async def test_other_files_do_not_exist(server: Live) -> None:
    for path in ("/docs/LICENSE", "/docs/../docs_page.py", "/docs/%2e%2e/docs_page.py", "/docs/x/y"):
        answer = await server.http.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_route")


def test_files_are_those_of_the_recorded_version() -> None:
    for line in (DIRECTORY / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256(gzip.decompress((DIRECTORY / f"{name}.gz").read_bytes())).hexdigest() == digest


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
