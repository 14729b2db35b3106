"""The files of the pages: their types, compression, caching, and that no others are served."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from orchestrator.api import static_files
from tests.support.live import Live

API = Path(static_files.__file__).parent
FILES = {
    "/docs/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "/docs/swagger-ui.css": "text/css; charset=utf-8",
    "/docs/favicon-32x32.png": "image/png",
    "/page/page.js": "text/javascript; charset=utf-8",
    "/page/page.css": "text/css; charset=utf-8",
    "/page/icon.svg": "image/svg+xml",
    "/page/vendor/marked.esm.js": "text/javascript; charset=utf-8",
    "/page/vendor/purify.es.mjs": "text/javascript; charset=utf-8",
}
COMPRESSED = [path for path in FILES if "vendor" in path or "swagger-ui" in path]


@pytest.mark.parametrize("path", FILES)
async def test_file_has_its_type_and_is_asked_for_again_each_time(server: Live, path: str) -> None:
    answer = await server.http.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == FILES[path]
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    unchanged = await server.http.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    changed = await server.http.get(path, headers={"if-none-match": '"of another release"'})
    assert changed.content == answer.content


@pytest.mark.parametrize("path", COMPRESSED)
async def test_file_is_compressed_for_those_who_accept_it(server: Live, path: str) -> None:
    compressed = await server.http.get(path)
    plain = await server.http.get(path, headers={"accept-encoding": "identity"})
    assert compressed.content == plain.content
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.headers["vary"] == plain.headers["vary"] == "accept-encoding"
    assert "content-encoding" not in plain.headers
    assert int(compressed.headers["content-length"]) < len(plain.content) / 2


@pytest.mark.parametrize(
    "path",
    [
        "/docs/LICENSE", "/docs/../docs_page.py", "/docs/%2e%2e/docs_page.py", "/docs/x/y",
        "/page/index.html", "/page/../chat_page.py", "/page/vendor/purify.LICENSE.txt", "/page//etc/passwd",
        "/page/vendor/purify.es.mjs.gz", "/page/",
    ],
)  # fmt: skip
async def test_other_files_do_not_exist(server: Live, path: str) -> None:
    answer = await server.http.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_route")


@pytest.mark.parametrize("directory", ["swagger_ui", "chat_page/vendor"])
def test_foreign_files_are_those_of_the_recorded_version(directory: str) -> None:
    lines = (API / directory / "SHA256SUMS").read_text().splitlines()
    recorded = {name: digest for digest, name in map(str.split, lines)}
    stored = {file.stem: gzip.decompress(file.read_bytes()) for file in (API / directory).glob("*.gz")}
    assert recorded == {name: hashlib.sha256(content).hexdigest() for name, content in stored.items()}
