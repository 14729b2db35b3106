"""The status port answers while the engine cannot."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

from engine_start.status import serve_status
from engine_start.steps import Steps


@pytest.fixture
def steps() -> Steps:
    return Steps(report=lambda _: None)


@pytest.fixture
def url(steps: Steps) -> Iterator[str]:
    server = serve_status(steps, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_it_names_the_step_and_its_seconds(url: str, steps: Steps) -> None:
    steps.add("image", 42)
    steps.begin("weights")
    status = httpx.get(url, trust_env=False).json()
    assert status == {
        "state": "starting",
        "seconds": {"image": 42},
        "step": "weights",
        "step_seconds": status["step_seconds"],
    }
    steps.ready()
    assert httpx.get(url, trust_env=False).json()["state"] == "ready"


def test_silent_connection_keeps_no_other_waiting(url: str) -> None:
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)):
        assert httpx.get(url, trust_env=False).status_code == 200


def test_only_get_is_answered(url: str) -> None:
    assert httpx.post(url, trust_env=False).status_code == 501
