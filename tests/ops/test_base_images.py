"""Base images are pinned by the digest that their registry reports, with and without an anonymous login."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ops import base_images
from ops.account import Failed
from ops.base_images import PINS, ROOT, digest_of, pin

DIGEST = "sha256:" + 64 * "a"
TOKEN = "anonymous"


class Registry(BaseHTTPRequestHandler):
    """A registry that knows the repository `python`, and gives anyone a token for `private`."""

    server: ThreadingHTTPServer

    def do_HEAD(self) -> None:
        *_, repository, _, _ = self.path.split("/")
        port = self.server.server_address[1]
        if repository == "private" and self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.send_response(401)
            realm = (
                f'Bearer realm="http://127.0.0.1:{port}/token",service="r",scope="repository:private:pull"'
            )
            self.send_header("WWW-Authenticate", realm)
        elif repository in ("python", "private") and "index" in self.headers["Accept"]:
            self.send_response(200)
            self.send_header("Docker-Content-Digest", DIGEST)
        else:
            self.send_response(404)
        self.end_headers()

    def do_GET(self) -> None:
        asked = self.path == "/token?service=r&scope=repository%3Aprivate%3Apull"
        body = b'{"token": "anonymous"}' if asked else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Writes nothing."""


@pytest.fixture
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_digest_is_the_one_that_the_registry_reports(registry: str) -> None:
    assert digest_of(f"{registry}/docker/library/python:3.11") == DIGEST


def test_anonymous_login_is_used_if_the_registry_asks_for_it(registry: str) -> None:
    assert digest_of(f"{registry}/private:1") == DIGEST


def test_unknown_image_and_unreachable_registry_are_reported(registry: str) -> None:
    with pytest.raises(Failed, match=r"reports no digest for .*/ruby:1: status 404"):
        digest_of(f"{registry}/ruby:1")
    with pytest.raises(Failed, match=r"127.0.0.1:1 cannot be asked for 127.0.0.1:1/python:3"):
        digest_of("127.0.0.1:1/python:3")


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("python:3.11", ("registry-1.docker.io", "library/python", "3.11")),
        ("vllm/vllm-openai:v1", ("registry-1.docker.io", "vllm/vllm-openai", "v1")),
        ("public.ecr.aws/docker/library/python:3", ("public.ecr.aws", "docker/library/python", "3")),
        ("localhost:5000/a/b", ("localhost:5000", "a/b", "latest")),
    ],
)
def test_names_have_dockers_defaults(image: str, parts: tuple[str, str, str]) -> None:
    assert base_images._parts(image) == parts


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for one in PINS:
        (tmp_path / one.file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / one.file, tmp_path / one.file)
    return tmp_path


def test_every_base_image_gets_its_digest_and_a_second_run_replaces_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {one.file: (project / one.file).read_text() for one in PINS}
    for letter in "ab":
        digest = "sha256:" + 64 * letter
        monkeypatch.setattr(base_images, "digest_of", lambda image, digest=digest: digest)
        lines = pin(project)
        assert len(lines) == len(PINS) == 7
        for one in PINS:
            text = (project / one.file).read_text()
            assert text.count(f"@{digest}") == sum(other.file == one.file for other in PINS)
            assert text.replace(f"@{digest}", "") == before[one.file].replace(f"@{digest}", "")
    assert all("(no change)" in line for line in pin(project))


def test_every_dockerfile_and_compose_file_is_covered() -> None:
    named = {one.file for one in PINS}
    for path in (ROOT / "services").glob("*/Dockerfile"):
        assert str(path.relative_to(ROOT)) in named
    for path in (ROOT / "docker-compose.yml", ROOT / "services" / "vllm" / "compose.yaml"):
        assert "    image:" not in path.read_text() or str(path.relative_to(ROOT)) in named


def test_no_file_is_changed_if_a_registry_fails(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [(project / one.file).read_text() for one in PINS]

    def digest(image: str) -> str:
        if "ecr.aws" in image:
            raise Failed("the registry is down")
        return DIGEST

    monkeypatch.setattr(base_images, "digest_of", digest)
    with pytest.raises(Failed, match="the registry is down"):
        pin(project)
    assert [(project / one.file).read_text() for one in PINS] == before
