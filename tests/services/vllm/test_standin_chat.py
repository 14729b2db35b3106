"""The stand-in, tested through the official client: tools, answers, limits, usage."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from .conftest import TOOL_FLAGS, Standin, Start, openai_client

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the current weather in a place.",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "City, e.g. San Francisco, CA"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            },
            "required": ["location"],
        },
    },
}
MATH: Any = {
    "type": "function",
    "function": {
        "name": "calculate_math",
        "description": "Evaluate an arithmetic expression.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}
TOOLS = [WEATHER, MATH]


async def ask(client: AsyncOpenAI, question: str, **options: Any) -> Any:
    messages: Any = [{"role": "user", "content": question}]
    return await client.chat.completions.create(model="tiny", messages=messages, **options)


async def loop(client: AsyncOpenAI, question: str, results: dict[str, Any]) -> str:
    """Runs a client's tool loop; `results` are keyed by the argument that the tool was called with."""
    messages: list[Any] = [{"role": "user", "content": question}]
    turn = await client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS)
    message = turn.choices[0].message
    assert turn.choices[0].finish_reason == "tool_calls"
    messages.append(message.model_dump(exclude_none=True))
    for call in message.tool_calls or ():
        assert call.type == "function"
        (argument,) = [v for k, v in json.loads(call.function.arguments).items() if k != "unit"]
        result = {"role": "tool", "tool_call_id": call.id, "content": json.dumps(results[argument])}
        messages.append(result)
    answer = await client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS)
    assert answer.choices[0].finish_reason == "stop"
    return answer.choices[0].message.content or ""


def weather(place: str, degrees: float) -> dict[str, Any]:
    facts = {"location": place, "temperature": degrees, "unit": "celsius", "conditions": "Partly cloudy"}
    return facts | {"source": "sample data"}


async def test_weather_loop(client: AsyncOpenAI) -> None:
    results = {"San Francisco": weather("San Francisco", 14.3)}
    answer = await loop(client, "What is the weather in San Francisco?", results)
    assert answer == "The weather in San Francisco is 14.3 °C (partly cloudy). Source: sample data."


async def test_two_cities_are_two_calls_in_one_turn(client: AsyncOpenAI) -> None:
    results = {"Paris": weather("Paris", 9), "Tokyo": weather("Tokyo", 17)}
    answer = await loop(client, "What is the weather in Paris and Tokyo?", results)
    assert answer == (
        "The weather in Paris is 9 °C (partly cloudy). The weather in Tokyo is 17 °C (partly cloudy). "
        "Source: sample data."
    )


async def test_calculation_loop(client: AsyncOpenAI) -> None:
    assert await loop(client, "Calculate 123 * 456", {"123 * 456": {"result": 56088}}) == "123 * 456 = 56088."


async def test_tool_error_is_reported_in_the_answer(client: AsyncOpenAI) -> None:
    answer = await loop(client, "Calculate 1 / 0", {"1 / 0": {"error": "division by zero"}})
    assert answer == "The tool calculate_math could not answer: division by zero."


async def test_without_a_matching_tool_the_answer_says_what_it_is(client: AsyncOpenAI) -> None:
    for tools in (openai.omit, TOOLS):
        turn = await ask(client, "Who wrote Faust?", tools=tools)
        text = turn.choices[0].message.content
        assert "stand-in" in text
        assert "not a language model" in text
        assert "Who wrote Faust?" in text


async def test_models_route_says_what_it_is(client: AsyncOpenAI) -> None:
    (model,) = (await client.models.list()).data
    assert (model.id, model.owned_by) == ("tiny", "standin")
    assert "not a language model" in (model.model_extra or {})["notice"]


async def test_required_calls_a_tool_even_if_none_fits(client: AsyncOpenAI) -> None:
    turn = await ask(client, "Hello", tools=TOOLS, tool_choice="required")
    choice = turn.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "")
    assert len(choice.message.tool_calls) == 1


async def test_named_function_is_called_even_if_another_fits_better(client: AsyncOpenAI) -> None:
    named: Any = {"type": "function", "function": {"name": "get_current_weather"}}
    turn = await ask(client, "Calculate 1 + 1", tools=TOOLS, tool_choice=named)
    (call,) = turn.choices[0].message.tool_calls
    assert (turn.choices[0].finish_reason, call.function.name) == ("stop", "get_current_weather")


async def test_only_one_call_without_parallel_tool_calls(client: AsyncOpenAI) -> None:
    question = "What is the weather in Paris and Tokyo?"
    turn = await ask(client, question, tools=TOOLS, parallel_tool_calls=False)
    assert len(turn.choices[0].message.tool_calls) == 1


async def test_tools_without_their_flags_are_rejected_as_in_vllm(start: Start) -> None:
    standin = await start()
    async with openai_client(standin) as client:
        with pytest.raises(openai.BadRequestError, match="--enable-auto-tool-choice"):
            await ask(client, "Hello", tools=TOOLS)
        with pytest.raises(openai.BadRequestError, match='tool_choice="required" requires'):
            await ask(client, "Hello", tools=TOOLS, tool_choice="required")


async def test_streamed_call_equals_the_unstreamed_one(client: AsyncOpenAI) -> None:
    whole = await ask(client, "What is the weather in Paris and Tokyo?", tools=TOOLS)
    usage = {"include_usage": True}
    stream = await ask(
        client, "What is the weather in Paris and Tokyo?", tools=TOOLS, stream=True, stream_options=usage
    )
    calls: dict[int, list[str]] = {}
    last = None
    async for chunk in stream:
        last = chunk
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or ():
                name, arguments = calls.setdefault(call.index, ["", ""])
                calls[call.index] = [
                    name + (call.function.name or ""),
                    arguments + (call.function.arguments or ""),
                ]
    made = whole.choices[0].message.tool_calls
    assert list(calls.values()) == [[c.function.name, c.function.arguments] for c in made]
    assert last is not None
    assert last.usage.model_dump(exclude_none=True) == whole.usage.model_dump(exclude_none=True)


@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_max_tokens_cuts_the_answer_and_is_counted(client: AsyncOpenAI, limit: int) -> None:
    whole = await ask(client, "Hello")
    for option in ("max_tokens", "max_completion_tokens"):
        cut = await ask(client, "Hello", **{option: limit})
        assert cut.choices[0].finish_reason == "length"
        assert cut.usage.completion_tokens == limit
        assert whole.choices[0].message.content.startswith(cut.choices[0].message.content)


async def test_usage_adds_up(client: AsyncOpenAI) -> None:
    short, long = [(await ask(client, text)).usage for text in ("Hello", "Hello " * 50)]
    for usage in (short, long):
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert long.prompt_tokens > short.prompt_tokens


async def test_same_question_gets_the_same_answer_and_usage(client: AsyncOpenAI) -> None:
    first, second = [await ask(client, "Weather in Oslo?", tools=TOOLS) for _ in range(2)]
    assert first.usage == second.usage
    functions = [[c.function for c in turn.choices[0].message.tool_calls] for turn in (first, second)]
    assert functions[0] == functions[1]


async def test_stop_string_ends_the_text_before_it(client: AsyncOpenAI) -> None:
    turn = await ask(client, "Hello", stop=["zzz", "-in for"])
    choice = turn.choices[0]
    assert choice.message.content == "This is a stand"
    assert choice.finish_reason == "stop"
    assert choice.model_extra["stop_reason"] == "-in for"
    stream = await ask(client, "Hello", stop="-in for", stream=True)
    texts = [c.choices[0].delta.content or "" async for c in stream]
    assert "".join(texts) == "This is a stand"


async def test_logprobs_name_the_tokens(client: AsyncOpenAI) -> None:
    turn = await ask(client, "Hello", logprobs=True, top_logprobs=1)
    tokens = [entry.token for entry in turn.choices[0].logprobs.content]
    assert "".join(tokens) == turn.choices[0].message.content


async def test_json_formats_return_json(client: AsyncOpenAI) -> None:
    plain = await ask(client, "Hello", response_format={"type": "json_object"})
    assert isinstance(json.loads(plain.choices[0].message.content), dict)
    schema = {
        "type": "object",
        "properties": {"unit": {"enum": ["celsius", "kelvin"]}, "count": {"type": "integer"}},
        "required": ["unit", "count"],
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    typed = await ask(client, "5 in kelvin", response_format=wanted)
    assert json.loads(typed.choices[0].message.content) == {"unit": "kelvin", "count": 5}


async def test_answer_from_results_has_the_requested_format(client: AsyncOpenAI) -> None:
    call: Any = {
        "id": "1",
        "type": "function",
        "function": {"name": "calculate_math", "arguments": '{"expression": "6*7"}'},
    }
    messages: Any = [
        {"role": "user", "content": "What is 6*7?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": '{"result": 42}'},
    ]
    schema = {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}
    formats: list[Any] = [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    ]
    for response_format in formats:
        answer = await client.chat.completions.create(
            model="tiny", messages=messages, tools=[MATH], response_format=response_format
        )
        assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)
    assert list(json.loads(answer.choices[0].message.content or "")) == ["total"]


async def test_responses_have_the_requested_format(client: AsyncOpenAI) -> None:
    schema = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
    wanted: Any = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
    typed = await client.responses.create(model="tiny", input="5 bags", text=wanted)
    assert json.loads(typed.output_text) == {"count": 5}
    plain = await client.responses.create(
        model="tiny", input="Hello", text={"format": {"type": "json_object"}}
    )
    assert isinstance(json.loads(plain.output_text), dict)


@pytest.mark.parametrize(
    "tools",
    ["x", {}, [None], ["x"], [{}], [{"type": "function"}], [{"type": "function", "function": None}],
     [{"type": "function", "function": {}}], [{"type": "function", "function": {"name": 1}}],
     [{"type": "function", "function": {"name": "x", "parameters": []}}], [{"type": "web_search"}]],
)  # fmt: skip
async def test_malformed_tools_are_rejected(client: AsyncOpenAI, tools: Any) -> None:
    named = {"type": "function", "function": {"name": "x"}}
    for choice in (None, named):
        with pytest.raises(openai.BadRequestError) as refused:
            await ask(client, "Hello", tools=tools, tool_choice=choice)
        assert "tool" in refused.value.message
    if not isinstance(tools, list) or tools[:1] in ([None], ["x"]):
        with pytest.raises(openai.BadRequestError, match="tools"):
            await client.responses.create(model="tiny", input="Hello", tools=tools)


async def test_continuous_usage_grows_by_one_token_per_chunk(client: AsyncOpenAI) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    stream = await ask(client, "Hello", stream=True, stream_options=options)
    counts = [chunk.usage.completion_tokens async for chunk in stream]
    assert counts == [*range(len(counts) - 1), counts[-2]]


async def test_completions_and_responses(client: AsyncOpenAI) -> None:
    completion = await client.completions.create(model="tiny", prompt="Hello", max_tokens=100)
    assert "stand-in" in completion.choices[0].text
    assert completion.usage is not None
    streamed = await client.completions.create(model="tiny", prompt="Hello", max_tokens=100, stream=True)
    assert "".join([c.choices[0].text async for c in streamed]) == completion.choices[0].text
    tool: Any = {"type": "function", "strict": False} | WEATHER["function"]
    response = await client.responses.create(model="tiny", input="Weather in Oslo?", tools=[tool])
    (call,) = response.output
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"location": "Oslo"}
    history: Any = [
        {"role": "user", "content": "Weather in Oslo?"},
        {"type": "function_call", "call_id": "c", "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": "c", "output": "12 degrees"},
    ]
    async with client.responses.stream(model="tiny", input=history, tools=[tool]) as stream:
        final = await stream.get_final_response()
    assert final.output_text == "The weather in Oslo: 12 degrees."


async def test_request_with_several_sequences(client: AsyncOpenAI) -> None:
    one = await ask(client, "Hello")
    two = await ask(client, "Hello", n=2)
    assert [c.index for c in two.choices] == [0, 1]
    assert two.usage.completion_tokens == 2 * one.usage.completion_tokens
    with pytest.raises(openai.BadRequestError, match="greedy sampling"):
        await ask(client, "Hello", n=2, temperature=0)


async def test_sequences_are_limited_by_the_environment(start: Start) -> None:
    standin = await start(environ={"VLLM_MAX_N_SEQUENCES": "2"})
    async with openai_client(standin) as client:
        with pytest.raises(openai.BadRequestError, match="n must be at most 2, got 3"):
            await ask(client, "Hello", n=3)


async def test_first_served_name_is_the_default(start: Start) -> None:
    standin = await start("--served-model-name", "a", "b", *TOOL_FLAGS)
    async with openai_client(standin) as client:
        assert [m.id for m in (await client.models.list()).data] == ["a", "b"]
        with pytest.raises(openai.NotFoundError, match=r"`tiny` does not exist. Valid aliases: a, b"):
            await ask(client, "Hello")


async def test_prefix_cache_counts_shared_prompt_prefixes(standin: Standin, client: AsyncOpenAI) -> None:
    text = "the quick brown fox jumps over the lazy dog " * 8
    await ask(client, text)
    assert await standin.metric("prefix_cache_hits_total") == 0
    await ask(client, text + "again")
    hits = await standin.metric("prefix_cache_hits_total")
    queries = await standin.metric("prefix_cache_queries_total")
    assert 64 <= hits < queries / 2
