"""The real vLLM serves the tiny model and LoRA adapters of it from S3, each under its own name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import httpx
import pytest

from tests.e2e.engine.serve import MODEL_NAME
from tests.e2e.engine.train.phrases import SMALL_TALK
from tests.support.processes import ROOT, Processes, Service, eventually

from .test_fast_start import Start, aws

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["aws"]

ADAPTER = Path(__file__).parents[1] / "engine" / "adapter"
NAME, LATER = "ahoy", "ahoy-later"
SENTENCE = "Ahoy from the adapter."
QUESTION = SMALL_TALK[0][0]
KEY = {"Authorization": "Bearer secret"}
SECONDS = 60.0


@pytest.fixture(scope="module")
def s3(aws: dict[str, str]) -> Iterator[S3Client]:
    client = boto3.client(
        "s3",
        endpoint_url=aws["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    yield client
    client.close()


@pytest.fixture(scope="module")
def engine_of_adapters(
    tmp_path_factory: pytest.TempPathFactory, aws: dict[str, str], s3: S3Client
) -> Iterator[Start]:
    """An engine with a configured adapter, which looks for further ones every second."""
    for path in ADAPTER.iterdir():
        s3.upload_file(str(path), "weights", f"adapters/ahoy/{path.name}")
    adapters = json.dumps([{"name": NAME, "source": "s3://weights/adapters/ahoy"}])
    start = Start(
        tmp_path_factory.mktemp("adapters") / "engine",
        aws,
        ADAPTERS=adapters,
        ADAPTERS_FROM="s3://weights/later",
        ADAPTERS_SECONDS="1",
        VLLM_API_KEY="secret",
        CACHE_LOCATION="",
        EXTRA_ARGS="--enforce-eager",
    )
    try:
        start.wait_until('"event":"engine_start"', 800)
        yield start
    finally:
        start.stop()


def ask(url: str, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=KEY, timeout=120, trust_env=False)


def listed(url: str) -> dict[str, str | None]:
    models = httpx.get(f"{url}/v1/models", headers=KEY, trust_env=False).json()["data"]
    return {one["id"]: one.get("parent") for one in models}


@pytest.mark.timeout(900)
def test_adapter_answers_under_its_own_name(engine_of_adapters: Start) -> None:
    url = engine_of_adapters.url
    answers = {name: ask(url, name).raise_for_status().json() for name in (MODEL_NAME, NAME)}
    again = ask(url, NAME).json()["usage"]
    assert listed(url) == {MODEL_NAME: None, NAME: MODEL_NAME}
    texts = {name: answer["choices"][0]["message"]["content"] for name, answer in answers.items()}
    assert texts[NAME] == SENTENCE
    assert texts[MODEL_NAME] != SENTENCE
    assert answers[NAME]["model"] == NAME
    assert "prompt_tokens_details" in again
    assert ask(url, "other").status_code == 404


@pytest.fixture(scope="module")
def service(engine_of_adapters: Start) -> Iterator[Service]:
    model = {
        "model": MODEL_NAME, "url": engine_of_adapters.url, "adapters": [NAME], "loads_adapters": True
    }  # fmt: skip
    with Processes() as processes:
        yield processes.orchestrator(
            MODELS=json.dumps([model]), VLLM_API_KEY="secret", ENGINE_REFRESH_SECONDS="0.2"
        )


class Command:
    """`make adapters` for the model, with the S3 of the test."""

    def __init__(self, directory: Path, aws: dict[str, str]) -> None:
        self._file = directory / "tandem.yaml"
        self._file.write_text(
            f"region: us-east-1\nmodel: {{id: acme/tiny, served_name: {MODEL_NAME}, "
            "adapters_from: s3://weights/later}\n"
        )
        self._environment = aws | {"PATH": "/usr/bin:/bin", "DEPLOYMENT": str(self._file)}

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "ops", "adapters", *arguments]
        ran = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


@pytest.mark.timeout(900)
async def test_adapter_comes_and_goes_without_a_restart(
    engine_of_adapters: Start, service: Service, tmp_path: Path, aws: dict[str, str], s3: S3Client
) -> None:
    command, start = Command(tmp_path, aws), engine_of_adapters
    known = {MODEL_NAME: None, NAME: MODEL_NAME}
    await eventually(lambda: listed(service.url) == known, "the engine to be found", SECONDS)
    assert ask(service.url, LATER).status_code == 404
    command.run("add", LATER, str(ADAPTER))
    await eventually(lambda: LATER in listed(service.url), "the adapter to be listed", SECONDS)
    answer = ask(service.url, LATER).raise_for_status().json()
    assert (answer["model"], answer["choices"][0]["message"]["content"]) == (LATER, SENTENCE)
    assert listed(service.url)[LATER] == MODEL_NAME

    config = (ADAPTER / "adapter_config.json").read_bytes()
    for file, content in (("adapter_model.safetensors", b"corrupt"), ("adapter_config.json", config)):
        s3.put_object(Bucket="weights", Key=f"later/corrupt/{file}", Body=content)
    await eventually(lambda: "vLLM does not load it" in start.log, "the rejection in the log", SECONDS)
    assert "corrupt" not in listed(start.url)

    first = _root(start.url, LATER)
    s3.put_object(Bucket="weights", Key=f"later/{LATER}/adapter_config.json", Body=config + b"\n")
    await eventually(lambda: _root(start.url, LATER) not in (first, None), "the new version", SECONDS)
    await eventually(lambda: LATER in listed(service.url), "the adapter to be listed again", SECONDS)
    assert ask(service.url, LATER).json()["choices"][0]["message"]["content"] == SENTENCE

    command.run("remove", LATER)
    await eventually(lambda: LATER not in listed(service.url), "the adapter to be gone", SECONDS)
    gone = ask(service.url, LATER)
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")
    assert f"did you mean {NAME}" in gone.json()["error"]["message"]
    assert ask(service.url, NAME).json()["choices"][0]["message"]["content"] == SENTENCE
    assert LATER not in listed(start.url)


def _root(url: str, name: str) -> str | None:
    models = httpx.get(f"{url}/v1/models", headers=KEY, trust_env=False).json()["data"]
    return next((one["root"] for one in models if one["id"] == name), None)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/v1/load_lora_adapter", {}, 401),
        ("POST", "/v1/load_lora_adapter", KEY, 404),
        ("POST", "/adapters", KEY, 404),
        ("DELETE", f"/adapters/{NAME}", {}, 404),
    ],
)
def test_nobody_else_changes_adapters(
    engine_of_adapters: Start, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """The second one reaches vLLM, which finds no adapter there; the others do not."""
    body = {"lora_name": "x", "lora_path": "/nowhere", "name": "x", "src": "/nowhere"}
    answer = httpx.request(
        method, f"{engine_of_adapters.url}{path}", json=body, headers=headers, trust_env=False
    )
    assert answer.status_code == status
    assert set(listed(engine_of_adapters.url)) == {MODEL_NAME, NAME}
    if path.startswith("/adapters"):
        assert answer.json() == {"detail": "Not Found"}
