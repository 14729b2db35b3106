"""The benchmark's load generator and engine, tested against each other."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from bench.__main__ import engine_at
from bench.gateways import build
from bench.measure import CHUNKS, load, write_bodies
from tests.e2e.engine.serve import free_port

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bodies")
    write_bodies(directory)
    return directory


@pytest.fixture(scope="module")
def engine(bodies: Path) -> Iterator[int]:
    port = free_port()
    with ExitStack() as stack:
        engine_at(port, CHUNKS, 0, stack, bodies, calls=3)
        yield port


def test_engine_answers_as_the_api_does(engine: int, bodies: Path) -> None:
    url = f"http://127.0.0.1:{engine}/v1/chat/completions"
    text = httpx.post(url, content=(bodies / "chat.json").read_bytes()).json()
    assert text["choices"][0]["message"]["content"].startswith("A word.")
    called = httpx.post(url, content=(bodies / "tools.json").read_bytes()).json()
    calls = called["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == [
        "get_current_weather",
        "calculate_math",
        "calculate_math",
    ]
    assert all(json.loads(call["function"]["arguments"]) for call in calls)
    events = httpx.post(url, content=(bodies / "stream.json").read_bytes()).text.split("\n\n")
    # CHUNKS includes the event with the finish reason; [DONE] and the rest of the split follow.
    assert len(events) == CHUNKS + 2
    assert events[-2] == "data: [DONE]"


@pytest.mark.parametrize("body", ["chat", "stream", "tools", "long"])
def test_load_counts_every_answer(engine: int, bodies: Path, body: str) -> None:
    report = load(build("load"), engine, bodies / f"{body}.json", connections=4, requests=40)
    assert (report["done"], report["wrong"]) == (40, 0)
    assert report["events"] == (40 * (CHUNKS + 1) if body == "stream" else 0)
    assert 0 < report["p50_ms"] <= report["p99_ms"]


def test_load_at_a_rate_takes_the_expected_time(engine: int, bodies: Path) -> None:
    report = load(build("load"), engine, bodies / "chat.json", connections=8, requests=100, rate=500)
    assert report["seconds"] >= 99 / 500


@pytest.mark.parametrize("answer", [b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n", b"", b"nonsense"])
def test_load_fails_if_an_answer_is_wrong(bodies: Path, answer: bytes) -> None:
    class Wrong(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.wfile.write(answer)
            self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Wrong)
    threading.Thread(target=server.serve_forever).start()
    try:
        with pytest.raises(RuntimeError, match='"wrong":5'):
            load(build("load"), server.server_address[1], bodies / "chat.json", connections=1, requests=5)
    finally:
        server.shutdown()
        server.server_close()


def test_both_programs_print_their_usage() -> None:
    for name in ("engine", "load"):
        ended = subprocess.run([build(name)], capture_output=True, text=True, check=False)
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"usage: {name}")
