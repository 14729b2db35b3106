"""Speech-to-text: forms with audio are routed, renamed and limited like JSON, and never logged."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from orchestrator.api.by_model import FORM_ROUTES, ROUTES
from tests.support.forms import fields_of
from tests.support.live import until
from tests.support.scripted_engine import EngineRequest, after, body, raw_stream
from tests.support.several_models import Models, several_models

AUDIO = b"RIFF\0\xff\r\n--audio," + bytes(range(256)) * 8
WHISPER: dict[str, Any] = {
    "model": "openai/whisper-large-v3-turbo", "kind": "speech-to-text", "aliases": ["whisper-1"],
}  # fmt: skip
CHAT = {"model": "chat"}
TRANSCRIPT = {"text": "Hello.", "usage": {"type": "duration", "seconds": 3}}
TRANSCRIPTIONS, TRANSLATIONS = sorted(FORM_ROUTES)


@pytest.fixture
async def models() -> AsyncIterator[Models]:
    async with several_models(CHAT, WHISPER) as found:
        yield found


def requests(models: Models) -> list[EngineRequest]:
    return models.engines[WHISPER["model"]].requests


async def fields(request: EngineRequest) -> list[tuple[str, Any]]:
    """Returns the fields that vLLM gets of a form."""
    return await fields_of(request.body, request.headers["content-type"].encode())


async def post(models: Models, route: str = TRANSCRIPTIONS, **data: str) -> Any:
    return await models.server.http.post(route, data=data, files={"file": ("a.wav", AUDIO)})


@pytest.mark.parametrize("name", [WHISPER["model"], "whisper-1"])
async def test_openai_s_client_transcribes(models: Models, name: str) -> None:
    models.engines[WHISPER["model"]].play(body(TRANSCRIPT))
    answer = await models.server.openai.audio.transcriptions.create(
        model=name, file=("a.wav", AUDIO, "audio/wav"), language="en", prompt="Names: Ada"
    )
    assert answer.text == "Hello."
    assert answer.usage is not None
    assert answer.usage.to_dict() == {"type": "duration", "seconds": 3}
    [request] = requests(models)
    assert request.path == TRANSCRIPTIONS
    assert dict(await fields(request)) == {
        "model": WHISPER["model"],
        "language": "en",
        "prompt": "Names: Ada",
        "file": ("a.wav", AUDIO),
    }


async def test_openai_s_client_translates(models: Models) -> None:
    models.engines[WHISPER["model"]].play(body({"text": "Hello."}))
    with pytest.deprecated_call():  # by OpenAI, since their newer models only transcribe
        answer = await models.server.openai.audio.translations.create(
            model="whisper-1", file=("a.wav", AUDIO)
        )
    assert answer.text == "Hello."
    assert [one.path for one in requests(models)] == [TRANSLATIONS]


async def test_stream_is_relayed_and_its_usage_is_counted(models: Models) -> None:
    delta = {
        "object": "transcription.chunk",
        "model": WHISPER["model"],
        "choices": [{"delta": {"content": "Hi"}}],
    }
    usage = {
        **delta,
        "choices": [],
        "usage": {"prompt_tokens": 70, "completion_tokens": 5, "total_tokens": 75},
    }
    events = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in (delta, usage))
    models.engines[WHISPER["model"]].play(raw_stream(events + b"data: [DONE]\n\n"))
    chunks = [
        chunk
        async for chunk in await models.server.openai.audio.transcriptions.create(
            model="whisper-1",
            file=("a.wav", AUDIO),
            stream=True,
            extra_body={"stream_include_usage": True},
        )
    ]
    assert chunks[0].choices[0]["delta"]["content"] == "Hi"  # type: ignore[union-attr]
    assert ("stream", "true") in await fields(requests(models)[0])
    [row] = (await models.server.http.get("/v1/usage")).json()["data"]
    assert (row["prompt_tokens"], row["completion_tokens"]) == (70, 5)


async def test_azure_s_path_names_the_model(models: Models) -> None:
    models.engines[WHISPER["model"]].play(body(TRANSCRIPT), body(TRANSCRIPT))
    path = "/openai/deployments/whisper-1/audio/transcriptions?api-version=2024-10-21"
    for data in ({}, {"model": "other"}):
        assert (await post(models, path, **data)).status_code == 200
    for request in requests(models):
        assert dict(await fields(request)) == {"model": WHISPER["model"], "file": ("a.wav", AUDIO)}


async def test_without_a_name_the_first_model_for_speech_answers(models: Models) -> None:
    models.engines[WHISPER["model"]].play(body(TRANSCRIPT))
    assert (await post(models)).json() == TRANSCRIPT
    assert await fields(requests(models)[0]) == [("file", ("a.wav", AUDIO))]


async def test_errors_have_openai_s_shape(models: Models) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await models.server.openai.audio.transcriptions.create(model="whisper-2", file=("a.wav", AUDIO))
    assert "did you mean whisper-1 or" in unknown.value.message
    with pytest.raises(openai.BadRequestError) as wrong:
        await models.server.openai.audio.transcriptions.create(model="chat", file=("a.wav", AUDIO))
    assert wrong.value.code == "model_not_supported"
    chat = await models.server.chat(model="whisper-1")
    assert chat.json()["error"]["code"] == "model_not_supported"
    json_body = await models.server.http.post(TRANSCRIPTIONS, json={"model": "whisper-1"})
    assert (json_body.status_code, json_body.json()["error"]["code"]) == (415, "unsupported_media_type")
    broken = await models.server.http.post(
        TRANSCRIPTIONS, content=b"--b", headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_form")
    rejected = {
        "error": {"message": "Invalid or unsupported audio file.", "type": "BadRequestError", "code": 400}
    }
    models.engines[WHISPER["model"]].play(body(rejected, 400))
    with pytest.raises(openai.BadRequestError, match="unsupported audio file"):
        await models.server.openai.audio.transcriptions.create(model="whisper-1", file=("a.wav", AUDIO))


async def test_size_is_limited_and_commas_in_audio_do_not_count_as_values() -> None:
    async with several_models(WHISPER, MAX_BODY_BYTES="1000000", MAX_JSON_VALUES="1000") as models:
        models.engines[WHISPER["model"]].play(body(TRANSCRIPT), body(TRANSCRIPT))
        large = {"file": ("a.wav", b",[{" * 300_000)}
        assert (await models.server.http.post(TRANSCRIPTIONS, files=large)).status_code == 200
        assert not models.server.app._budget.used
        larger = {"file": ("a.wav", b"," * 1_000_000)}
        rejected = await models.server.http.post(TRANSCRIPTIONS, files=larger)
        assert (rejected.status_code, rejected.json()["error"]["code"]) == (413, "request_too_large")


async def test_compressed_form_is_read(models: Models) -> None:
    models.engines[WHISPER["model"]].play(body(TRANSCRIPT))
    form = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        + AUDIO
        + b"\r\n--b--\r\n"
    )
    headers = {"content-type": "multipart/form-data; boundary=b", "content-encoding": "gzip"}
    answer = await models.server.http.post(TRANSCRIPTIONS, content=gzip.compress(form), headers=headers)
    assert answer.json() == TRANSCRIPT
    assert dict(await fields(requests(models)[0])) == {"model": WHISPER["model"], "file": ("a.wav", AUDIO)}


async def test_keys_permit_models_and_audio_does_not_count_as_a_prompt() -> None:
    digest = hashlib.sha256(b"a-long-secret-key").hexdigest()
    async with several_models(CHAT, WHISPER, API_KEYS=f"alice:{digest}", KEY_TOKENS_PER_DAY="100") as models:
        assert (await post(models, model="whisper-1")).status_code == 401
        server = models.server
        server.http.headers["authorization"] = "Bearer a-long-secret-key"
        [alice] = server.app._accounts
        alice.limits = alice.limits.with_entry({"models": ["whisper-1"]})
        whisper = models.engines[WHISPER["model"]]
        whisper.otherwise = after(asyncio.Event(), body(TRANSCRIPT))
        waits = asyncio.create_task(post(models, model="whisper-1"))
        await until(lambda: len(requests(models)) == 1)
        assert alice.tokens is not None
        assert (alice.in_flight, alice.tokens.reserved) == (1, 0)
        waits.cancel()
        await until(lambda: not alice.in_flight)
        assert alice.tokens.spent == 0, "nothing was estimated from the size of the audio"
        whisper.otherwise = body(TRANSCRIPT)
        assert (await post(models, model="whisper-1")).json() == TRANSCRIPT
        assert alice.tokens.spent == 0
        alice.limits = alice.limits.with_entry({"models": ["chat"]})
        for data in ({"model": WHISPER["model"]}, {}):
            assert (await post(models, **data)).json()["error"]["code"] == "model_not_permitted"


async def test_another_model_stands_in() -> None:
    small = {"model": "whisper-small", "kind": "speech-to-text"}
    first = {**WHISPER, "fallback": "whisper-small", "url": "http://127.0.0.1:9"}
    async with several_models(first, small, ENGINE_WAIT_SECONDS="0") as models:
        await until(lambda: models.server.app._fleets.names["whisper-small"][0].ready)
        models.engines["whisper-small"].play(body(TRANSCRIPT), body(TRANSCRIPT))
        for data in ({"model": "whisper-1"}, {}):
            answer = await post(models, **data)
            assert answer.headers["x-fallback-model"] == "whisper-small"
        for request in models.engines["whisper-small"].requests:
            assert dict(await fields(request)) == {"model": "whisper-small", "file": ("a.wav", AUDIO)}


async def test_audio_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with several_models(WHISPER, LOG_CONTENT="true") as models:
        models.engines[WHISPER["model"]].play(body(TRANSCRIPT), body({"error": {"message": "no"}}, 400))
        for _ in range(2):
            await post(models, model="whisper-1", prompt="secret words")
    logged = "".join(str(record.__dict__) for record in caplog.records)
    assert WHISPER["model"] in logged
    assert "RIFF" not in logged
    assert "secret words" not in logged


def test_only_models_for_speech_have_these_routes() -> None:
    assert {route for route, kinds in ROUTES.items() if "speech-to-text" in kinds} == FORM_ROUTES
