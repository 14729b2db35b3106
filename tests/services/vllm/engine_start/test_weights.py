"""Weights from S3: complete or a clear error; copies resume, and never end up wrong."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine_start import weights
from engine_start.location import Location
from engine_start.settings import LaunchError
from engine_start.storage import s3_client
from engine_start.weights import INDEX, MANIFEST, StoredFile, copy, has_safetensors, stored_files

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SERVICE = Path(__file__).parents[4] / "services/vllm"
CONFIG = b'{"model_type": "one"}'
WEIGHTS = bytes(range(256)) * 20_000


def put(s3: S3Client, location: Location, path: str, body: bytes) -> StoredFile:
    etag = s3.put_object(Bucket=location.bucket, Key=location.key(path), Body=body)["ETag"]
    return StoredFile(path, len(body), etag, hashlib.sha256(body).hexdigest())


@pytest.fixture
def files(s3: S3Client, location: Location) -> list[StoredFile]:
    """A complete mirror."""
    stored = [put(s3, location, "config.json", CONFIG), put(s3, location, "model.safetensors", WEIGHTS)]
    put(s3, location, MANIFEST, json.dumps({"files": [asdict(one) for one in stored]}).encode())
    return stored


def silent(_: int, __: int) -> None:
    """Ignores progress."""


def test_mirror_is_read_and_copied(
    s3: S3Client, location: Location, files: list[StoredFile], tmp_path: Path
) -> None:
    assert stored_files(s3, location) == files
    assert has_safetensors(files)
    copy(s3, location, files, tmp_path, progress=silent)
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS
    assert (tmp_path / "config.json").read_bytes() == CONFIG


def test_copy_that_is_there_is_not_repeated(
    s3: S3Client, location: Location, files: list[StoredFile], tmp_path: Path
) -> None:
    copy(s3, location, files, tmp_path, progress=silent)
    s3.delete_object(Bucket=location.bucket, Key=location.key("model.safetensors"))
    copy(s3, location, files, tmp_path, progress=silent)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(LaunchError, match="an object disappeared"):
        copy(s3, location, files, tmp_path, progress=silent)


def test_progress_ends_at_the_whole_size(
    s3: S3Client,
    location: Location,
    files: list[StoredFile],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "_REPORT_SECONDS", 0)
    seen: list[tuple[int, int]] = []
    copy(s3, location, files, tmp_path, progress=lambda done, total: seen.append((done, total)))
    total = len(CONFIG) + len(WEIGHTS)
    assert max(seen) == (total, total)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delete": "model.safetensors"}, "model.safetensors is missing, contrary to tandem-manifest.json"),
        ({"put": "model.safetensors"}, "model.safetensors has 5 bytes"),
        ({"put": MANIFEST}, "tandem-manifest.json is not JSON"),
    ],
)
def test_mirror_that_is_not_complete_is_named(
    s3: S3Client, location: Location, files: list[StoredFile], change: dict[str, str], message: str
) -> None:
    if "delete" in change:
        s3.delete_object(Bucket=location.bucket, Key=location.key(change["delete"]))
    else:
        put(s3, location, change["put"], b"wrong")
    with pytest.raises(LaunchError) as raised:
        stored_files(s3, location)
    assert str(raised.value).startswith(f"MODEL_SOURCE='{location}': ")
    assert message in str(raised.value)


def test_own_model_needs_no_manifest(s3: S3Client, location: Location) -> None:
    put(s3, location, "config.json", CONFIG)
    put(s3, location, "model-00001-of-00002.safetensors", WEIGHTS)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    put(s3, location, INDEX, json.dumps(index).encode())
    with pytest.raises(LaunchError, match=r"model-00002-of-00002.safetensors is missing, which model.*lists"):
        stored_files(s3, location)
    put(s3, location, "model-00002-of-00002.safetensors", WEIGHTS)
    assert len(stored_files(s3, location)) == 4


def test_prefix_without_a_model_is_named(s3: S3Client, location: Location) -> None:
    with pytest.raises(LaunchError, match=r"there is no config.json; name the model's own prefix"):
        stored_files(s3, location)


def test_bucket_that_is_not_there_is_named(s3: S3Client) -> None:
    with pytest.raises(LaunchError, match=r"MODEL_SOURCE='s3://no-such-bucket/m': the bucket does not exist"):
        stored_files(s3, Location("no-such-bucket", "m"))


def test_s3_out_of_reach_is_named(aws: str, location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with closing(s3_client()) as client, pytest.raises(LaunchError, match="S3 cannot be reached"):
        stored_files(client, location)


def test_wrong_hash_is_named_and_nothing_is_kept(
    s3: S3Client, location: Location, files: list[StoredFile], tmp_path: Path
) -> None:
    wrong = StoredFile(**(asdict(files[1]) | {"sha256": "0" * 64}))
    with pytest.raises(
        LaunchError, match=r"model.safetensors has the SHA-256 .*tandem-manifest.json says 000"
    ):
        copy(s3, location, [wrong], tmp_path, progress=silent)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_full_disk_is_named(
    s3: S3Client, location: Location, files: list[StoredFile], tmp_path: Path
) -> None:
    # The kernel answers every write to /dev/full as a full disk does.
    weights._part(tmp_path, files[1]).symlink_to("/dev/full")
    with pytest.raises(LaunchError, match=f"{tmp_path}: the disk is full: the weights need .* GB more"):
        copy(s3, location, files, tmp_path, progress=silent)


def test_disk_that_is_too_small_is_named_before_anything_is_copied(
    s3: S3Client, location: Location, files: list[StoredFile], tmp_path: Path
) -> None:
    huge = StoredFile("model.safetensors", 10**16, files[1].etag)
    with pytest.raises(LaunchError, match=r"the disk is full: the weights need 10000000.0 GB more"):
        copy(s3, location, [huge], tmp_path, progress=silent)
    assert list(tmp_path.iterdir()) == []


class CuttingProxy:
    """Forwards connections, and cuts each after some bytes of the answer."""

    def __init__(self, address: str, bytes_each: int, cuts: int) -> None:
        host, port = address.removeprefix("http://").split(":")
        self._target, self._bytes, self.cuts_left = (host, int(port)), bytes_each, cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with closing(client), closing(socket.create_connection(self._target)) as server:
            threading.Thread(target=self._copy, args=(client, server), daemon=True).start()
            sent = 0
            while piece := server.recv(65536):
                client.sendall(piece)
                sent += len(piece)
                if self.cuts_left and sent >= self._bytes:
                    self.cuts_left -= 1
                    break
            for one in (client, server):  # closing alone does not wake the thread that reads
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)


@pytest.fixture
def cut(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    proxies: list[CuttingProxy] = []

    def start(cuts: int) -> tuple[S3Client, CuttingProxy]:
        proxies.append(CuttingProxy(aws, 1_500_000, cuts))
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxies[-1].address)
        return s3_client(), proxies[-1]

    yield start
    for proxy in proxies:
        proxy.close()


def test_connection_that_breaks_is_resumed(
    cut: Any, location: Location, files: list[StoredFile], tmp_path: Path
) -> None:
    client, proxy = cut(cuts=2)
    with closing(client):
        copy(client, location, [files[1]], tmp_path, progress=silent)
    assert proxy.cuts_left == 0
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS


def test_connection_that_always_breaks_is_named_and_the_next_start_resumes(
    cut: Any, s3: S3Client, location: Location, files: list[StoredFile], tmp_path: Path
) -> None:
    size = len(WEIGHTS) * 3
    body = WEIGHTS * 3
    big = put(s3, location, "big.safetensors", body)
    client, _ = cut(cuts=100)
    with (
        closing(client),
        pytest.raises(LaunchError, match=f"broke 5 times .* of {size} bytes; the next start"),
    ):
        copy(client, location, [big], tmp_path, progress=silent)
    part = weights._part(tmp_path, big)
    assert 0 < part.stat().st_size < size
    copy(s3, location, [big], tmp_path, progress=silent)
    assert (tmp_path / "big.safetensors").read_bytes() == body


def test_stop_during_a_copy_ends_it_at_once(aws: str, location: Location, tmp_path: Path) -> None:
    """An S3 that never finishes an answer, and a signal to launch.py."""
    with socket.create_server(("127.0.0.1", 0)) as endless:
        process = subprocess.Popen(
            [sys.executable, str(SERVICE / "launch.py")],
            env=os.environ
            | {
                "MODEL_SOURCE": str(location),
                "LOAD_FORMAT": "auto",
                "HOME": str(tmp_path),
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{endless.getsockname()[1]}",
            },
            stderr=subprocess.PIPE,
        )
        connection, _ = endless.accept()
        with closing(connection):
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
