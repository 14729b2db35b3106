"""The official openai package for Python: error classes, timeouts and disconnecting clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.clients.conftest import KEY
from tests.clients.support import (
    CALCULATOR,
    WEATHER,
    Client,
    Json,
    complete,
    fault,
    metric,
    question,
    running,
    settle,
    streamed,
)
from tests.support.processes import MODEL, Service, eventually

ENDLESS = fault(when="answer", chunks=200_000, delay_token=0.01)
SHAPE = {"message", "type", "param", "code"}


@pytest.fixture(params=[openai.OpenAI, openai.AsyncOpenAI], ids=["sync", "async"])
async def strict_client(request: pytest.FixtureRequest, strict_tandem: Service) -> AsyncIterator[Client]:
    made: Client = request.param(base_url=f"{strict_tandem.url}/v1", api_key=KEY, max_retries=0, timeout=20)
    yield made
    await settle(made.close())


def check_shape(error: openai.APIError) -> None:
    """Checks that the SDK read every field of the body, and that the message is readable."""
    assert isinstance(error.body, dict)
    assert set(error.body) == SHAPE
    fields = (error.body["type"], error.body["param"], str(error.body["code"]))
    assert fields == (error.type, error.param, str(error.code))
    assert error.body["message"] in str(error)
    assert len(error.body["message"]) > 20


@pytest.mark.parametrize(
    ("header", "code"), [("Bearer sk-wrong", "invalid_api_key"), (openai.omit, "missing_api_key")]
)
async def test_unknown_key_is_an_authentication_error(strict_client: Client, header: str, code: str) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        await complete(strict_client, **question("Hi"), extra_headers={"Authorization": header})
    check_shape(caught.value)
    assert caught.value.code == code
    assert caught.value.response.headers["x-request-id"] == caught.value.request_id


async def test_valid_key_is_accepted_and_never_logged(strict_client: Client, strict_tandem: Service) -> None:
    assert (await complete(strict_client, **question("Hi"))).choices
    await eventually(lambda: '"key_name":"bootstrap"' in strict_tandem.log, "the request's log line")
    assert KEY not in strict_tandem.log


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"n": 2, "tools": [CALCULATOR]}, "n"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 10**6}, "max_tokens"),
    ],
)
async def test_bad_request_names_its_field(client: Client, fields: Json, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await complete(client, **question("Hi") | fields)
    check_shape(caught.value)
    assert caught.value.param == param


async def test_unknown_model_is_a_not_found_error_that_names_the_models(client: Client) -> None:
    with pytest.raises(openai.NotFoundError, match=MODEL) as caught:
        await complete(client, **question("Hi") | {"model": "gpt-9"})
    check_shape(caught.value)
    assert caught.value.param == "model"
    with pytest.raises(openai.NotFoundError, match="'gpt-9' does not exist; available models") as caught:
        await settle(client.models.retrieve("gpt-9"))
    check_shape(caught.value)
    assert caught.value.code == "model_not_found"


async def test_unknown_route_is_a_not_found_error(client: Client) -> None:
    with pytest.raises(
        openai.NotFoundError, match="Unknown route: GET /v1/files; the routes are /v1/chat"
    ) as caught:
        await settle(client.files.list())
    check_shape(caught.value)
    assert caught.value.code == "unknown_route"


async def test_route_that_the_engine_lacks_is_a_not_found_error(client: Client) -> None:
    with pytest.raises(openai.NotFoundError, match="engine does not serve this route") as caught:
        await settle(client.embeddings.create(model=MODEL, input="Hi"))
    check_shape(caught.value)


async def test_body_over_the_limit_is_an_api_status_error_413(strict_client: Client) -> None:
    with pytest.raises(openai.APIStatusError, match="MAX_BODY_BYTES") as caught:
        await complete(strict_client, **question("x" * 5000))
    check_shape(caught.value)
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


async def test_one_request_too_many_is_a_rate_limit_error(
    strict_client: Client, strict_tandem: Service
) -> None:
    held = await complete(strict_client, **question("Tell me more", stream=True, **ENDLESS))
    with pytest.raises(openai.RateLimitError, match="MAX_IN_FLIGHT") as caught:
        await complete(strict_client, **question("Hi"))
    check_shape(caught.value)
    assert caught.value.response.headers["retry-after"] == "1"
    await settle(held.close())
    await _is_idle(strict_tandem)


async def test_retry_of_the_sdk_succeeds_once_there_is_capacity(strict_tandem: Service) -> None:
    refused = metric(strict_tandem, "requests_total", status="429")
    base_url = f"{strict_tandem.url}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=2) as client:
        held = await complete(client, **question("Tell me more", stream=True, **ENDLESS))
        waiting = asyncio.create_task(complete(client, **question("Hi")))
        await eventually(lambda: metric(strict_tandem, "requests_total", status="429") > refused, "a 429")
        await held.close()
        answer = await waiting
    assert answer.choices[0].message.content


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ({"status": 500}, 502, "engine_failed"),
        ({"status": 501}, 502, "engine_failed"),
        ({"cut_after": 0}, 502, "engine_failed"),
        ({"status": 503}, 503, "engine_unavailable"),
    ],
    ids=["500 from the engine", "501 from the engine", "cut connection", "busy engine"],
)
@pytest.mark.parametrize("tools", [[], [CALCULATOR]], ids=["relayed", "tools run"])
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_failing_engine_is_an_internal_server_error(
    client: Client, how: Json, status: int, code: str, tools: list[Json], streaming: bool
) -> None:
    with pytest.raises(openai.InternalServerError, match="engine") as caught:
        await complete(client, **question("Calculate 6 * 7", *tools), stream=streaming, **fault(**how))
    check_shape(caught.value)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    if status == 503:
        assert caught.value.response.headers["retry-after"] == "5"


@pytest.mark.parametrize("tools", [[], [CALCULATOR]], ids=["relayed", "tools run"])
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_answer_that_takes_too_long_is_an_internal_server_error_504(
    hurried_tandem: Service, tools: list[Json], streaming: bool
) -> None:
    base_url = f"{hurried_tandem.url}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key="dummy", max_retries=0) as client:
        request = question("Calculate 6 * 7", *tools, **fault(delay_first=60))
        with pytest.raises(openai.InternalServerError, match="REQUEST_TIMEOUT_SECONDS") as caught:
            await complete(client, **request, stream=streaming)
    check_shape(caught.value)
    assert (caught.value.status_code, caught.value.code) == (504, "deadline_exceeded")


@pytest.mark.parametrize(
    "how",
    [{"error_event_after": 4}, {"cut_after": 4}],
    ids=["error event from the engine", "cut connection"],
)
@pytest.mark.parametrize("tools", [[], [CALCULATOR]], ids=["relayed", "tools run"])
async def test_broken_stream_is_an_api_error_after_the_preceding_chunks(
    client: Client, how: Json, tools: list[Json]
) -> None:
    request = question("Calculate 6 * 7", *tools, stream=True, **fault(when="answer", **how))
    stream = await complete(client, **request)
    chunks: list[Any] = []
    with pytest.raises(openai.APIError, match="engine") as caught:
        await _read(stream, chunks)
    await settle(stream.close())
    check_shape(caught.value)
    assert not isinstance(caught.value, openai.APIStatusError)
    assert caught.value.code == "engine_failed"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert not any(chunk.choices[0].finish_reason for chunk in chunks)


@pytest.mark.parametrize(
    ("when", "streaming"),
    [({}, False), ({}, True), ({"when": "call"}, False), ({"when": "answer"}, True)],
    ids=["relayed", "relayed stream", "in the first round", "in the second round, streamed"],
)
async def test_client_that_times_out_frees_the_engine(
    client: Client, standin: Service, when: Json, streaming: bool
) -> None:
    await eventually(lambda: running(standin) == 0, "earlier requests to finish")
    aborts = _aborts(standin)
    request = question("What is the weather in Oslo?", *([WEATHER] if when else []))
    impatient = client.with_options(timeout=0.5)
    ask = streamed if streaming else complete
    with pytest.raises(openai.APITimeoutError):
        await ask(impatient, **request, **fault(delay_first=60, **when))
    await eventually(lambda: _aborts(standin) == aborts + 1, "the engine to count an abort")
    assert running(standin) == 0


@pytest.mark.parametrize("tools", [[], [WEATHER]], ids=["relayed", "tools run"])
async def test_client_that_closes_its_stream_frees_the_engine(
    client: Client, standin: Service, tools: list[Json]
) -> None:
    await eventually(lambda: running(standin) == 0, "earlier requests to finish")
    stream = await complete(
        client, **question("What is the weather in Oslo?", *tools, stream=True, **ENDLESS)
    )
    await _read(stream, [], 3)
    assert running(standin) == 1
    await settle(stream.close())
    await eventually(lambda: running(standin) == 0, "the engine to be free")


async def test_client_that_is_cancelled_frees_the_engine(tandem: Service, standin: Service) -> None:
    async with openai.AsyncOpenAI(base_url=f"{tandem.url}/v1", api_key="dummy") as client:
        request = question("What is the weather in Oslo?", WEATHER, **fault(delay_first=60))
        asking = asyncio.create_task(complete(client, **request))
        await eventually(lambda: running(standin) == 1, "the engine to be busy")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await eventually(lambda: running(standin) == 0, "the engine to be free")


async def test_heartbeats_keep_a_silent_stream_alive_and_the_sdk_does_not_see_them(
    strict_client: Client,
) -> None:
    patient = strict_client.with_options(
        timeout=0.6
    )  # the time between two reads; a heartbeat is sent every 0.2 s
    chunks = await streamed(patient, **question("Hi"), **fault(delay_first=1.0))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"


async def _read(stream: Any, chunks: list[Any], most: int = 10**6) -> None:
    """Reads at most this many chunks of the sync or the async client's stream into the list."""
    if hasattr(stream, "__aiter__"):
        async for chunk in stream:
            chunks.append(chunk)
            if len(chunks) == most:
                return
    else:
        for chunk in stream:
            chunks.append(chunk)
            if len(chunks) == most:
                return


async def _is_idle(tandem: Service) -> None:
    await eventually(
        lambda: metric(tandem, "engine_requests_in_flight") == 0, f"{tandem.name} to have no request"
    )


def _aborts(engine: Service) -> float:
    return metric(engine, "vllm:request_success_total", finished_reason="abort")
