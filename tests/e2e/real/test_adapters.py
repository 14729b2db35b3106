"""The real vLLM serves the tiny model and a LoRA adapter of it from S3, each under its own name."""

from __future__ import annotations

import json
from pathlib import Path

import boto3
import httpx
import pytest

from tests.e2e.engine.serve import MODEL_NAME
from tests.e2e.engine.train.phrases import SMALL_TALK

from .test_fast_start import Start, aws

__all__ = ["aws"]

ADAPTER = Path(__file__).parents[1] / "engine" / "adapter"
NAME = "ahoy"
SENTENCE = "Ahoy from the adapter."


def ask(url: str, model: str, question: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120, trust_env=False)


@pytest.mark.timeout(900)
def test_adapter_answers_under_its_own_name(
    tmp_path: Path,
    aws: dict[str, str],
) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=aws["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    for path in ADAPTER.iterdir():
        s3.upload_file(str(path), "weights", f"adapters/ahoy/{path.name}")
    s3.close()
    adapters = json.dumps([{"name": NAME, "source": "s3://weights/adapters/ahoy"}])
    start = Start(
        tmp_path / "engine", aws, ADAPTERS=adapters, CACHE_LOCATION="", EXTRA_ARGS="--enforce-eager"
    )
    question = SMALL_TALK[0][0]
    try:
        start.wait_until('"event":"engine_start"', 800)
        listed = httpx.get(f"{start.url}/v1/models", trust_env=False).json()["data"]
        answers = {
            name: ask(start.url, name, question).raise_for_status().json() for name in (MODEL_NAME, NAME)
        }
        again = ask(start.url, NAME, question).json()["usage"]
        unknown = ask(start.url, "other", question)
    finally:
        start.stop()
    assert {one["id"]: one["parent"] for one in listed} == {MODEL_NAME: None, NAME: MODEL_NAME}
    texts = {name: answer["choices"][0]["message"]["content"] for name, answer in answers.items()}
    assert texts[NAME] == SENTENCE
    assert texts[MODEL_NAME] != SENTENCE
    assert answers[NAME]["model"] == NAME
    assert "prompt_tokens_details" in again
    assert unknown.status_code == 404
