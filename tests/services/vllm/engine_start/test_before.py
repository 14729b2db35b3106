"""What happened before the container: from ECS's metadata and the kernel's clock."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from engine_start.before import earlier_steps, image_digest, task_metadata


def at(seconds_ago: float) -> str:
    """A time as ECS writes it, with nanoseconds."""
    return datetime.fromtimestamp(time.time() - seconds_ago, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"


@pytest.fixture
def metadata() -> dict[str, Any]:
    return {
        "PullStartedAt": at(100),
        "PullStoppedAt": at(20),
        "Containers": [{"Name": "vllm", "ImageID": "sha256:abc"}],
    }


@pytest.fixture
def kernel(tmp_path: Path) -> dict[str, Path]:
    """An instance that booted 150 s ago."""
    (tmp_path / "uptime").write_text("150.00 200.00\n")
    (tmp_path / "boot_id").write_text("boot-1\n")
    return {"uptime": tmp_path / "uptime", "boot_id": tmp_path / "boot_id"}


def test_first_start_after_the_boot_has_both_steps(
    metadata: dict[str, Any], kernel: dict[str, Path], tmp_path: Path
) -> None:
    steps = earlier_steps(metadata, tmp_path / "cache/.boot", **kernel)
    assert steps == {"instance": pytest.approx(50, abs=1), "image": pytest.approx(80, abs=0.1)}


def test_second_start_on_an_instance_did_not_wait_for_its_boot(
    metadata: dict[str, Any], kernel: dict[str, Path], tmp_path: Path
) -> None:
    remembered = tmp_path / ".boot"
    earlier_steps(metadata, remembered, **kernel)
    assert list(earlier_steps(metadata, remembered, **kernel)) == ["image"]
    kernel["boot_id"].write_text("boot-2\n")
    assert list(earlier_steps(metadata, remembered, **kernel)) == ["instance", "image"]


def test_directory_that_cannot_be_written_costs_only_the_step(
    metadata: dict[str, Any], kernel: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert list(earlier_steps(metadata, tmp_path / "file/.boot", **kernel)) == ["image"]


@pytest.mark.parametrize("broken", [{}, {"PullStartedAt": "soon", "PullStoppedAt": None}])
def test_without_times_there_are_no_steps(broken: dict[str, Any], tmp_path: Path) -> None:
    assert earlier_steps(broken, tmp_path / ".boot") == {}


class Metadata(BaseHTTPRequestHandler):
    body = b""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/v4/id/task" else 404)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def agent() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v4/id"
    server.shutdown()
    server.server_close()


def test_metadata_comes_from_the_agent(agent: str, metadata: dict[str, Any]) -> None:
    Metadata.body = json.dumps(metadata).encode()
    found = task_metadata({"ECS_CONTAINER_METADATA_URI_V4": agent})
    assert found == metadata
    assert image_digest(found) == "sha256:abc"


@pytest.mark.parametrize("body", [b"not JSON", b"[1]"])
def test_agent_that_answers_nonsense_is_ignored(agent: str, body: bytes) -> None:
    Metadata.body = body
    assert task_metadata({"ECS_CONTAINER_METADATA_URI_V4": agent}) == {}


def test_outside_of_ecs_there_is_none() -> None:
    assert task_metadata({}) == {}
    assert task_metadata({"ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:1"}) == {}
    assert image_digest({}) is None
