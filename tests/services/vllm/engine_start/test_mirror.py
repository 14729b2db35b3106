"""The mirror of a model: a hub over HTTP, S3 as moto serves it, and what goes wrong between them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from engine_start.hub import Hub, HubError, HubFile, needed
from engine_start.location import Location
from engine_start.mirror import mirror
from engine_start.weights import MANIFEST, stored_files

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SERVICE = Path(__file__).parents[4] / "services/vllm"
MODEL, COMMIT = "acme/one", "c" * 40
WEIGHTS = bytes(range(256)) * 12_000


@dataclass
class FakeHub:
    """A hub that redirects downloads to another host, as the real one does."""

    files: dict[str, bytes] = field(
        default_factory=lambda: {"config.json": b"{}", "model.safetensors": WEIGHTS, "model.bin": WEIGHTS}
    )
    token: str | None = None
    cut_after: int | None = None
    damaged: bool = False
    address: str = ""
    downloads: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    def listing(self) -> dict[str, Any]:
        siblings = []
        for path, body in self.files.items():
            blob = hashlib.sha1(f"blob {len(body)}\0".encode() + body).hexdigest()
            lfs = {"sha256": hashlib.sha256(body).hexdigest()} if path.startswith("model") else None
            siblings.append({"rfilename": path, "size": len(body), "blobId": blob, "lfs": lfs})
        return {"sha": COMMIT, "siblings": siblings}


def handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path.startswith("/cdn/"):
                return self._file(path.removeprefix("/cdn/"))
            if hub.token and self.headers["Authorization"] != f"Bearer {hub.token}":
                return self._answer(401, b"")
            if path == f"/api/models/{MODEL}/revision/main":
                return self._answer(200, json.dumps(hub.listing()).encode())
            name = path.removeprefix(f"/{MODEL}/resolve/{COMMIT}/")
            if name not in hub.files:
                return self._answer(404, b"")
            self.send_response(302)
            self.send_header("Location", f"{hub.address.replace('127.0.0.1', 'localhost')}/cdn/{name}")
            self.end_headers()
            return None

        def _file(self, name: str) -> None:
            hub.downloads.append((name, self.headers["Range"], self.headers["Authorization"]))
            start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            body = hub.files[name][start:]
            if hub.damaged and name == "model.safetensors":
                body = b"x" + body[1:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: hub.cut_after])

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    fake = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(fake))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fake.address = f"http://127.0.0.1:{server.server_port}"
    yield fake
    server.shutdown()
    server.server_close()


def run(hub: FakeHub, s3: S3Client, location: Location, token: str | None = None) -> None:
    mirror(Hub(token, hub.address), s3, MODEL, "main", location)


def test_mirror_is_complete_for_the_engine(hub: FakeHub, s3: S3Client, location: Location) -> None:
    run(hub, s3, location)
    files = stored_files(s3, location)
    assert {file.path for file in files} == {"config.json", "model.safetensors"}
    body = s3.get_object(Bucket=location.bucket, Key=location.key("model.safetensors"))["Body"].read()
    assert body == WEIGHTS
    manifest = s3.get_object(Bucket=location.bucket, Key=location.key(MANIFEST))["Body"].read()
    assert json.loads(manifest)["revision"] == COMMIT


def test_files_that_are_there_are_not_copied_again(hub: FakeHub, s3: S3Client, location: Location) -> None:
    run(hub, s3, location)
    hub.downloads.clear()
    hub.files["config.json"] = b'{"changed": true}'
    run(hub, s3, location)
    assert [name for name, _, _ in hub.downloads] == ["config.json"]


def test_connection_that_breaks_is_resumed(hub: FakeHub, s3: S3Client, location: Location) -> None:
    hub.cut_after = 1_000_000
    run(hub, s3, location)
    assert [wanted for name, wanted, _ in hub.downloads if name == "model.safetensors"] == [
        None, "bytes=1000000-", "bytes=2000000-", "bytes=3000000-",
    ]  # fmt: skip
    assert stored_files(s3, location)


def test_hub_that_always_breaks_leaves_no_manifest(hub: FakeHub, s3: S3Client, location: Location) -> None:
    hub.cut_after = 0
    with pytest.raises(HubError, match=r"ended after 0 of .* bytes; run the build again"):
        run(hub, s3, location)
    assert "Contents" not in s3.list_objects_v2(Bucket=location.bucket)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=location.bucket)


def test_wrong_hash_leaves_no_file(hub: FakeHub, s3: S3Client, location: Location) -> None:
    hub.damaged = True
    with pytest.raises(HubError, match=r"model.safetensors has the hash .*, and the Hub states"):
        run(hub, s3, location)
    found = s3.list_objects_v2(Bucket=location.bucket).get("Contents", [])
    assert {one["Key"] for one in found} <= {location.key("config.json")}


def test_gated_model_needs_the_token_which_no_other_host_sees(
    hub: FakeHub, s3: S3Client, location: Location
) -> None:
    hub.token = "hf_secret"
    with pytest.raises(HubError, match=r"denies access \(401\).*model.hf_token_secret_arn"):
        run(hub, s3, location)
    run(hub, s3, location, "hf_secret")
    assert {authorization for _, _, authorization in hub.downloads} == {None}


def test_unknown_revision_is_named(hub: FakeHub, s3: S3Client, location: Location) -> None:
    with pytest.raises(HubError, match=r"no such model, revision or file.*Check model.id and model.revision"):
        mirror(Hub(None, hub.address), s3, MODEL, "v2", location)


def test_command_copies_what_the_environment_names(hub: FakeHub, s3: S3Client, location: Location) -> None:
    environ = os.environ | {"MODEL": MODEL, "TARGET": str(location), "HUB_ADDRESS": hub.address}
    command = [sys.executable, "-m", "engine_start.mirror"]
    done = subprocess.run(command, cwd=SERVICE, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "model.safetensors: 3.1 MB" in done.stdout
    gone = environ | {"TARGET": "s3://no-such-bucket/m"}
    done = subprocess.run(command, cwd=SERVICE, env=gone, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1, "mirror.py: TARGET='s3://no-such-bucket/m': the bucket does not exist\n",
    )  # fmt: skip


def test_weights_that_are_there_twice_are_copied_once() -> None:
    names = ["consolidated.safetensors", "model-1.safetensors", "model.safetensors.index.json", "onnx/a.onnx",
             "original/c.pth", "tokenizer.json", ".gitattributes", "pytorch_model.bin"]  # fmt: skip
    kept = needed([HubFile(name, 1, None, "") for name in names])
    assert [file.path for file in kept] == [
        "model-1.safetensors", "model.safetensors.index.json", "tokenizer.json",
    ]  # fmt: skip
    old = needed([HubFile(name, 1, None, "") for name in ("pytorch_model.bin", "config.json")])
    assert len(old) == 2
