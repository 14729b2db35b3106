"""The real vLLM starts from S3 twice: weights are streamed, and the second start compiles less.

Both starts have an empty disk at the same paths, as on two new instances; only S3 is the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from tests.e2e.engine.serve import MODEL, MODEL_NAME, environment, free_port, yield_processor

from .conftest import PYTHON

LAUNCH = Path(__file__).parents[3] / "services/vllm/launch.py"
WEIGHTS, CACHE = "s3://weights/tiny", "s3://weights/engine-cache"
VLLM = '#!/bin/sh\nshift\nexec "{python}" -m vllm.entrypoints.openai.api_server --model "$@"\n'
LEAST_RATIO = 1.3
"""How much faster the second start compiles, at least. On two idle cores, 2.8 was seen."""


@pytest.fixture(scope="module")
def aws() -> Iterator[dict[str, str]]:
    """The environment of a task whose S3 is moto's server, with the tiny model in a bucket."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    s3 = boto3.client(
        "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    s3.create_bucket(Bucket="weights")
    for path in MODEL.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), "weights", f"tiny/{path.relative_to(MODEL)}")
    yield {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING": "0",  # moto's server has one host name for all buckets
    }
    s3.close()
    server.stop()


class Start:
    """One start of launch.py with the real vLLM, on a disk of its own."""

    def __init__(self, directory: Path, aws: dict[str, str], **settings: str) -> None:
        directory.mkdir()
        (directory / "vllm").write_text(VLLM.format(python=PYTHON.absolute()))
        (directory / "vllm").chmod(0o755)
        self.directory = directory
        self.url = f"http://127.0.0.1:{free_port()}"
        self.status_url = f"http://127.0.0.1:{free_port()}"
        self.states: list[dict[str, Any]] = []
        self._log = directory / "log"
        packages = next(PYTHON.parents[1].glob("lib/python3*/site-packages")).absolute()
        defaults = {
            "PATH": f"{directory}:{PYTHON.parent.absolute()}:{os.environ['PATH']}",
            # launch.py runs in the environment of vLLM, as in the image; the `vllm` command is ours.
            "PYTHONPATH": str(packages),
            "HOME": str(directory),
            "HF_HOME": str(directory / "huggingface"),
            "VLLM_CACHE_ROOT": str(directory / "vllm-cache"),
            "MODEL": "acme/tiny",
            "SERVED_MODEL_NAME": MODEL_NAME,
            "MODEL_SOURCE": WEIGHTS,
            "TOKENIZER": f"{WEIGHTS}/tokenizer",
            "TOOL_CALL_PARSER": "hermes",
            "CACHE_LOCATION": CACHE,
            "HOST": "127.0.0.1",
            "PORT": self.url.rpartition(":")[2],
            "STATUS_PORT": self.status_url.rpartition(":")[2],
            "DTYPE": "float32",
            "MAX_MODEL_LEN": "512",
            "MAX_NUM_SEQS": "2",
            "HANG_SECONDS": "0",
            "STREAM_MEMORY_MIB": "256",
        }
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [PYTHON.absolute(), str(LAUNCH)],
                env=environment() | defaults | aws | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        yield_processor(self._process.pid)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until(self, text: str, seconds: float = 600) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.log:
            assert self._process.poll() is None, self.log[-4000:]
            assert time.monotonic() < deadline, self.log[-4000:]
            with suppress(httpx.TransportError):  # before the port is open
                self.states.append(httpx.get(self.status_url, trust_env=False, timeout=30).json())
            time.sleep(0.5)

    def seconds(self) -> dict[str, float]:
        entries = [json.loads(line) for line in self.log.splitlines() if line.startswith('{"event"')]
        (start,) = [entry for entry in entries if entry["event"] == "engine_start"]
        return dict(start["seconds"])

    def answer(self) -> str:
        asked = {"model": MODEL_NAME, "prompt": "Hello", "max_tokens": 4}
        answer = httpx.post(f"{self.url}/v1/completions", json=asked, timeout=120, trust_env=False)
        return str(answer.raise_for_status().json()["choices"][0]["text"])

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait(60)


@pytest.mark.timeout(1500)
def test_second_start_compiles_less(
    tmp_path: Path, aws: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    first = Start(disk, aws)
    try:
        first.wait_until("cache.py: compiled caches: saved ")
        answer = first.answer()
    finally:
        status = first.stop()
    assert status == 0
    assert "--load-format runai_streamer" in first.log
    assert "compiled caches: none yet" in first.log
    before = first.seconds()
    disk.rename(tmp_path / "first")
    second = Start(disk, aws)
    try:
        second.wait_until('"event":"engine_start"')
        assert second.answer() == answer
    finally:
        second.stop()
    assert "compiled caches: restored " in second.log
    after = second.seconds()
    with capsys.disabled():
        print(f"\n  first {before}\n  second {after}\n  ratio {before['compile'] / after['compile']:.1f}")
    assert list(before) == ["cache", "process", "weights", "compile", "warm_up"]
    assert before["compile"] / after["compile"] >= LEAST_RATIO
    assert any(state.get("step") == "weights" for state in first.states)
    assert second.states[-1].get("previous_seconds") == before


@pytest.mark.timeout(750)
def test_weights_are_copied_where_they_cannot_be_streamed(tmp_path: Path, aws: dict[str, str]) -> None:
    start = Start(tmp_path / "copied", aws, LOAD_FORMAT="safetensors", EXTRA_ARGS="--enforce-eager")
    try:
        start.wait_until('"event":"engine_start"')
        assert start.answer()
    finally:
        start.stop()
    assert "copy" in start.seconds()
    assert "runai_streamer" not in start.log
