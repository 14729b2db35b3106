"""The official openai package for Python, with only its base_url changed: everything that works."""

from __future__ import annotations

import inspect
import json

import httpx
import openai
import pydantic
import pytest

from orchestrator.chat.carried import MARK
from tests.clients.support import (
    CALCULATOR,
    EMAIL,
    SERVER_TOOL_CASES,
    WEATHER,
    Client,
    Json,
    collect,
    complete,
    echo,
    metric,
    question,
    settle,
    streamed,
    text_of,
)
from tests.support.live import Live
from tests.support.processes import MODEL, Service, eventually
from tests.support.scripted_engine import ScriptedEngine, call, call_deltas, stream, text, whole

PARAMETERS: Json = {
    "messages": [
        {"role": "developer", "content": "Be brief.", "name": "house"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Grüße, 世界 \u2028 🚆"}],
            "of_no_one": {"a": [1, None]},
        },
    ],
    "model": MODEL,
    "audio": {"format": "wav", "voice": "alloy"},
    "frequency_penalty": 0.25,
    "function_call": "none",
    "functions": [{"name": "old", "parameters": {}}],
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "max_completion_tokens": 100,
    "max_tokens": 100,
    "metadata": {"ticket": "4711"},
    "modalities": ["text"],
    "moderation": {"mode": "off"},
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "Hello"},
    "presence_penalty": -0.5,
    "prompt_cache_key": "tenant-1",
    "prompt_cache_options": {"ttl": "1h"},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
    "safety_identifier": "user-1",
    "seed": 7,
    "service_tier": "auto",
    "stop": ["\n\n", "END"],
    "store": False,
    "temperature": 0.1,
    "tool_choice": "auto",
    "top_logprobs": 3,
    "top_p": 0.9,
    "user": "ada",
    "verbosity": "low",
    "web_search_options": {"search_context_size": "low"},
}
UNKNOWN_TO_THE_SDK: Json = {
    "top_k": 20,
    "chat_template_kwargs": {"enable_thinking": False},
    "stop_token_ids": None,
    "large": 2**53 + 1,
    "small": 1e-7,
}

SERVER_TOOLS = pytest.mark.parametrize(
    ("asked", "tools", "calls", "said"), SERVER_TOOL_CASES.values(), ids=SERVER_TOOL_CASES
)


async def test_chat(client: Client) -> None:
    answer = await complete(client, **question("How are you?"))
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    assert answer.choices[0].message.role == "assistant"
    assert "How are you?" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id


async def test_streamed_chat_equals_the_unstreamed_answer(client: Client) -> None:
    whole_answer = await complete(client, **question("How are you?"))
    chunks = await streamed(client, **question("How are you?"))
    assert text_of(chunks) == whole_answer.choices[0].message.content
    assert len(chunks) > 10
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.choices[0].delta.role for chunk in chunks if chunk.choices[0].delta.role] == ["assistant"]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons[-1] == "stop"
    assert not any(reasons[:-1])


@SERVER_TOOLS
async def test_server_runs_tools(
    client: Client, tandem: Service, asked: str, tools: list[Json], calls: dict[str, int], said: list[str]
) -> None:
    before = {name: metric(tandem, "tool_calls_total", tool_name=name, outcome="ok") for name in calls}
    answer = await complete(client, **question(asked, *tools))
    message = answer.choices[0].message
    assert [part for part in said if part not in message.content] == []
    assert (message.tool_calls, answer.choices[0].finish_reason) == (None, "stop")
    assert calls == {
        name: metric(tandem, "tool_calls_total", tool_name=name, outcome="ok") - count
        for name, count in before.items()
    }


@SERVER_TOOLS
async def test_server_runs_tools_within_a_stream(
    client: Client, asked: str, tools: list[Json], calls: dict[str, int], said: list[str]
) -> None:
    request = question(asked, *tools, extra_body={"tandem": {"events": True}})
    chunks = await streamed(client, **request)
    assert [part for part in said if part not in text_of(chunks)] == []
    assert len({chunk.id for chunk in chunks}) == 1
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert not any(choice.delta.tool_calls for choice in choices)
    finished = [
        chunk.tandem["name"]
        for chunk in chunks
        if not chunk.choices and chunk.tandem["type"] == "tool_call.finished"
    ]
    assert {name: finished.count(name) for name in finished} == calls


async def test_client_tool_goes_back_to_the_client_and_its_result_becomes_the_answer(client: Client) -> None:
    request = question("Send an email to ada@example.com", EMAIL)
    first = await complete(client, **request)
    assert first.choices[0].finish_reason == "tool_calls"
    [asked] = first.choices[0].message.tool_calls
    assert asked.function.name == "send_email"
    assert json.loads(asked.function.arguments) == {"to": "ada@example.com"}
    result = {"role": "tool", "tool_call_id": asked.id, "content": "Delivered to ada@example.com at 12:34."}
    request["messages"] += [first.choices[0].message, result]
    second = await complete(client, **request)
    assert second.choices[0].finish_reason == "stop"
    assert "Delivered to ada@example.com at 12:34." in second.choices[0].message.content


async def test_client_can_choose_to_run_server_tools_itself(client: Client) -> None:
    request = question("What is the weather in Oslo?", WEATHER, extra_headers={"X-Tool-Execution": "client"})
    answer = await complete(client, **request)
    assert answer.choices[0].finish_reason == "tool_calls"
    [asked] = answer.choices[0].message.tool_calls
    assert asked.function.name == "get_current_weather"


async def test_turn_with_calls_for_both_sides_runs_the_servers_and_returns_the_clients(
    server: Live, engine: ScriptedEngine
) -> None:
    weather = call("get_current_weather", {"location": "Oslo"}, id="call-server")
    email = call("send_email", {"to": "ada@example.com"}, id="call-client")
    engine.play(whole(calls=[weather, email]))
    request = question("Mail Ada the weather in Oslo", EMAIL, WEATHER)
    first = await complete(server.openai, **request)
    assert first.choices[0].finish_reason == "tool_calls"
    [asked] = first.choices[0].message.tool_calls
    assert asked.function.name == "send_email"
    assert asked.id.startswith(f"call-client{MARK}")
    assert len(engine.requests) == 1

    request["messages"] += [
        first.choices[0].message, {"role": "tool", "tool_call_id": asked.id, "content": "sent"},
    ]  # fmt: skip
    engine.play(whole("Sent: 5.7 °C."))
    second = await complete(server.openai, **request)
    assert second.choices[0].message.content == "Sent: 5.7 °C."
    _, turn, *results = engine.requests[1].json["messages"]
    assert [made["function"]["name"] for made in turn["tool_calls"]] == ["get_current_weather", "send_email"]
    assert [made["id"] for made in turn["tool_calls"]] == [result["tool_call_id"] for result in results]
    assert turn["tool_calls"][1]["id"] == "call-client"
    assert "5.7" in results[0]["content"]
    assert results[1]["content"] == "sent"


async def test_streamed_turn_with_calls_for_both_sides_numbers_the_clients_from_0(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.play(
        stream(
            *text("One moment."),
            *call_deltas("get_current_weather", '{"location": "Oslo"}', index=0, id="call-server"),
            *call_deltas("send_email", '{"to": "ada@example.com"}', index=1, id="call-client"),
            finish="tool_calls",
        )
    )
    request = question("Mail Ada the weather in Oslo", EMAIL, WEATHER)
    chunks = await streamed(server.openai, **request)
    deltas = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or []]
    assert {part.index for part in deltas} == {0}
    assert deltas[0].id.startswith(f"call-client{MARK}")
    assert "".join(part.function.arguments or "" for part in deltas) == '{"to": "ada@example.com"}'
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_stream_helper_of_the_sync_client(tandem: Service) -> None:
    with (
        openai.OpenAI(base_url=f"{tandem.url}/v1", api_key="dummy") as client,
        client.chat.completions.stream(**question("Calculate 6 * 7", _strict(CALCULATOR))) as helper,
    ):
        deltas = [event.delta for event in helper if event.type == "content.delta"]
        final = helper.get_final_completion()
    assert "42" in "".join(deltas)
    assert final.choices[0].message.content == "".join(deltas)
    assert final.choices[0].finish_reason == "stop"


async def test_stream_helper_of_the_async_client(tandem: Service) -> None:
    async with (
        openai.AsyncOpenAI(base_url=f"{tandem.url}/v1", api_key="dummy") as client,
        client.chat.completions.stream(
            **question("Send an email to ada@example.com", _strict(EMAIL))
        ) as helper,
    ):
        done = [event async for event in helper if event.type == "tool_calls.function.arguments.done"]
        final = await helper.get_final_completion()
    assert [event.name for event in done] == ["send_email"]
    [asked] = final.choices[0].message.tool_calls or []
    assert asked.type == "function"
    assert asked.function.parsed_arguments == {"to": "ada@example.com"}


async def test_parse_helper_gets_an_object_of_the_schema(client: Client) -> None:
    class Meeting(pydantic.BaseModel):
        city: str
        people: int

    request = question("4 people meet in Paris", response_format=Meeting)
    answer = await settle(client.chat.completions.parse(**request))
    assert answer.choices[0].message.parsed == Meeting(city="Paris", people=4)


async def test_models_are_the_engines(client: Client, tandem: Service) -> None:
    await eventually(lambda: httpx.get(f"{tandem.url}/ready").is_success, "the engine to be discovered")
    listed = await settle(client.models.list())
    assert [model.id for model in listed.data] == [MODEL]
    assert listed.data[0].owned_by == "standin"
    assert await settle(client.models.retrieve(MODEL)) == listed.data[0]


async def test_completions(client: Client) -> None:
    request: Json = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 5}
    answer = await settle(client.completions.create(**request))
    assert answer.object == "text_completion"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5
    chunks = await collect(await settle(client.completions.create(**request, stream=True)))
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text


async def test_responses_are_relayed(client: Client) -> None:
    answer = await settle(client.responses.create(model=MODEL, input="How are you?"))
    assert "How are you?" in answer.output_text


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_usage_is_the_engines_total_over_all_rounds(
    client: Client, standin: Service, streaming: bool
) -> None:
    counters = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
    before = [metric(standin, name) for name in counters]
    request = question("Calculate 6 * 7", CALCULATOR)
    if streaming:
        chunks = await streamed(client, **request, stream_options={"include_usage": True})
        [usage] = [chunk.usage for chunk in chunks if chunk.usage]
        assert (chunks[-1].usage, chunks[-1].choices) == (usage, [])
    else:
        usage = (await complete(client, **request)).usage
    counted = [metric(standin, name) - count for name, count in zip(counters, before, strict=True)]
    assert [usage.prompt_tokens, usage.completion_tokens] == counted
    assert usage.total_tokens == sum(counted)


@pytest.mark.parametrize("tools", [[], [CALCULATOR]], ids=["relayed", "tools run"])
async def test_streamed_usage_is_only_sent_on_request(client: Client, tools: list[Json]) -> None:
    chunks = await streamed(client, **question("Calculate 6 * 7", *tools))
    assert len(chunks) > 5
    assert [chunk.usage for chunk in chunks if chunk.usage] == []


async def test_request_id_is_the_clients(client: Client) -> None:
    request = question("Hi", extra_headers={"x-request-id": "order-4711"})
    raw = await settle(client.chat.completions.with_raw_response.create(**request))
    assert raw.headers["x-request-id"] == "order-4711"
    assert raw.parse().choices[0].message.content


@pytest.mark.parametrize("tool", [EMAIL, CALCULATOR], ids=["relayed", "tools run"])
async def test_every_parameter_of_the_sdk_reaches_the_engine(
    server: Live, engine: ScriptedEngine, tool: Json
) -> None:
    engine.otherwise = echo
    request = {**PARAMETERS, "tools": [tool], "n": 1 if tool is CALCULATOR else 2}
    answer = await complete(server.openai, **request, extra_body=UNKNOWN_TO_THE_SDK)
    received = json.loads(answer.choices[0].message.content or "")
    if tool is CALCULATOR:  # the tool is offered in the first round, the format demanded in the last
        first, last = (sent.json for sent in engine.requests)
        assert received == last
        assert "response_format" not in first
        assert "tools" not in last
        received = {**last, **first}
        # Sent with only its name, completed by the server.
        assert received["tools"][0]["function"]["parameters"]["required"] == ["expression"]
        received["tools"] = [tool]
    assert received == request | UNKNOWN_TO_THE_SDK


def test_test_above_covers_every_parameter_of_the_sdk() -> None:
    create = inspect.signature(openai.resources.chat.completions.Completions.create)
    of_the_transport = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}
    tested_elsewhere = {"tools", "n", "stream", "stream_options"}
    assert set(create.parameters) - of_the_transport - tested_elsewhere == set(PARAMETERS)


def _strict(tool: Json) -> Json:
    """Adapts a tool to the SDK's stream helper."""
    return {**tool, "function": {**tool["function"], "strict": True}}
