"""The data of every token arrives once, however the engine splits and ends its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.chat.token_data import TokenData, covering, merged
from tests.support.live import Json, Live, events_of, live, text_of
from tests.support.scripted_engine import ScriptedEngine, body, call, call_deltas, raw_stream

from .loop_requests import MATH, MINE, SUM, TAGGED

WIRE = Path("tests/services/vllm/wire")
ASKED: Any = {"logprobs": True, "return_token_ids": True, "tools": [MATH, MINE]}


def entry(token: str, number: int) -> Json:
    return {"token": token, "logprob": -number / 8, "bytes": list(token.encode()), "top_logprobs": []}


def data_of(tokens: list[str], start: int = 0) -> Json:
    """Returns the fields of a choice for tokens whose ids count from `start`."""
    if not tokens:
        return {"logprobs": None, "token_ids": None}
    numbers = range(start, start + len(tokens))
    entries = [entry(token, number) for token, number in zip(tokens, numbers, strict=True)]
    return {"logprobs": {"content": entries}, "token_ids": list(numbers)}


def sse(delta: Json, finish: str | None = None, data: Json | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **(data or data_of([]))}
    return b"data: " + orjson.dumps({"id": "c", "model": "m", "choices": [choice], **fields}) + b"\n\n"


START = sse({"role": "assistant", "content": ""}, prompt_token_ids=[7, 8], prompt_text="Hi")
DONE = b"data: [DONE]\n\n"


def received(events: list[Any], field: str = "token_ids") -> list[Any]:
    found: list[Any] = []
    for event in events:
        for choice in event["choices"] if isinstance(event, dict) else ():
            value = choice.get(field) or []
            found += [entry["token"] for entry in value["content"]] if isinstance(value, dict) else value
    return found


def streamed(tokens: list[str], sizes: list[int], ending: str, finish: str) -> bytes:
    """Streams the tokens in chunks of these sizes. The ending says what the last chunk contains."""
    chunks, at = [], 0
    for size in [*sizes, len(tokens)]:
        part = tokens[at : at + size]
        if part:
            chunks.append((part, at))
        at += len(part)
    result = START
    for part, start in chunks:
        last = ending == "with text" and start + len(part) == len(tokens)
        result += sse({"content": "".join(part)}, finish if last else None, data_of(part, start))
    if ending == "apart":
        result += sse({}, finish)
    elif ending == "with the end token":
        result += sse({"content": ""}, finish, data_of(["<eos>"], len(tokens)))
    return result + DONE


# Text that the scanner must hold back, because a call may follow.
PIECES = st.sampled_from(
    ["a", "é", " ", "<", "<tool", "_call", ">", "{", '{"name"', "\n", "🦊", "</tool_call>"]
)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    tokens=st.lists(PIECES, max_size=12),
    sizes=st.lists(st.integers(1, 4), max_size=12),
    ending=st.sampled_from(["apart", "with text", "with the end token"]),
    finish=st.sampled_from(["stop", "length"]),
    writes=st.lists(st.integers(1, 400), max_size=6),
)
async def test_token_data_arrive_once_with_the_text(
    server: Live, engine: ScriptedEngine, tokens: list[str], sizes: list[int], ending: str, finish: str,
    writes: list[int],
) -> None:  # fmt: skip
    engine.play(raw_stream(streamed(tokens, sizes, ending, finish), writes))
    events = await server.chat_events(**ASKED)
    text, ids = text_of(events), received(events)
    assert received(events, "logprobs") == [[*tokens, "<eos>"][number] for number in ids]
    count = len(tokens) + (ending == "with the end token")
    if text == "".join(tokens):
        assert ids == list(range(count))
    else:  # a truncated call at the end is hidden, with its tokens
        assert ids == list(range(len(ids)))
        assert "".join(tokens).startswith(text)
    assert [e["prompt_token_ids"] for e in events if isinstance(e, dict) and "prompt_token_ids" in e] == [
        [7, 8]
    ]


@pytest.mark.parametrize("name", ["chat-logprobs-stream"])
async def test_recorded_logprobs_of_the_real_engine_arrive_once(
    server: Live, engine: ScriptedEngine, name: str
) -> None:
    recorded = (WIRE / f"{name}.sse").read_bytes()
    engine.play(raw_stream(recorded))
    events = await server.chat_events(tools=[MATH], logprobs=True)
    assert received(events, "logprobs") == received(events_of(recorded.decode()), "logprobs") != []


@pytest.mark.parametrize("finish", ["stop", "length"])
@pytest.mark.parametrize("size", [1, 3, 100])
async def test_tokens_of_hidden_calls_are_not_sent(
    server: Live, engine: ScriptedEngine, size: int, finish: str
) -> None:
    tokens = ["Hm", ". ", *TAGGED]
    first = streamed(tokens, [2, *[size] * 100], "with the end token", finish)
    engine.play(raw_stream(first), raw_stream(streamed(["2", "."], [1], "with text", "stop")))
    events = await server.chat_events(**ASKED)
    after = ["2", "."] if finish == "stop" else []
    assert received(events, "logprobs") == ["Hm", ". ", *after]


async def test_tokens_of_calls_that_the_engine_parsed_go_to_whoever_runs_them(
    server: Live, engine: ScriptedEngine
) -> None:
    def turn(name: str) -> bytes:
        deltas = call_deltas(name, SUM)
        pieces = b"".join(sse(delta, None, data_of(["x"], at)) for at, delta in enumerate(deltas))
        return START + pieces + sse({}, "tool_calls", data_of(["<eos>"], len(deltas))) + DONE

    count = len(call_deltas("my_tool", SUM)) + 1
    engine.play(raw_stream(turn("calculate_math")), raw_stream(turn("my_tool")))
    assert received(await server.chat_events(**ASKED)) == list(range(count))


async def test_text_after_a_dropped_call_has_its_own_tokens(engine: ScriptedEngine) -> None:
    first = START + b"".join(map(sse, call_deltas("calculate_math", SUM))) + sse({}, "tool_calls") + DONE
    tokens = ["A", *TAGGED, "\n", " B", "."]
    engine.play(raw_stream(first), raw_stream(streamed(tokens, [1] * 200, "with text", "stop")))
    async with live(engine.url, MAX_TOOL_ROUNDS="1") as server:
        events = await server.chat_events(**ASKED)
    assert (text_of(events), received(events, "logprobs")) == ("AB.", ["A", " B", "."])


def complete(tokens: list[str], message: Json, finish: str = "stop", start: int = 0, **fields: Any) -> Any:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, **message},
        "finish_reason": finish,
        **data_of(tokens, start),
    }
    return body({"id": "c", "model": "m", "choices": [choice], "usage": {}, **fields})


async def test_whole_answer_has_the_tokens_of_all_text(server: Live, engine: ScriptedEngine) -> None:
    calls = [call("calculate_math", SUM)]
    engine.play(
        complete(
            ["Hm", ".", "\n", "<tool_call>", "{", "<eos>"],
            {"content": "Hm.", "tool_calls": calls},
            "tool_calls",
            prompt_token_ids=[7],
        ),
        complete(["x", "y"], {"content": None, "tool_calls": calls}, "tool_calls", prompt_token_ids=[7, 8]),
        complete(["2", ".", "<eos>"], {"content": "2."}, start=20, prompt_token_ids=[7, 8, 9]),
    )
    answer = (await server.chat(**ASKED)).json()
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == "Hm.\n\n2."
    assert received([answer], "logprobs") == ["Hm", ".", "2", ".", "<eos>"]
    assert choice["token_ids"] == [0, 1, 20, 21, 22]
    assert answer["prompt_token_ids"] == [7]


async def test_answer_without_token_data_is_unchanged(server: Live, engine: ScriptedEngine) -> None:
    engine.play(raw_stream(streamed([], [], "apart", "stop")), complete([], {"content": "x"}))
    events: list[Any] = await server.chat_events(**ASKED)
    assert all(choice.get("logprobs") is None for e in events[:-1] for choice in e["choices"])
    assert (await server.chat(**ASKED)).json()["choices"][0]["logprobs"] is None


def test_data_wait_for_the_text_of_their_token() -> None:
    waiting = TokenData()
    waiting.add(data_of(["ab"], 0), 2)
    waiting.add(data_of([""], 1), 0)
    waiting.add(data_of(["cd"], 2), 2)
    assert waiting.take(0) == {}
    assert waiting.take(1)["token_ids"] == [0]
    assert waiting.take(1)["token_ids"] == [1]
    assert waiting.take(1)["token_ids"] == [2]
    assert waiting.take(1) == {}
    waiting.add(data_of(["e"], 3), 1)
    assert waiting.take_all()["token_ids"] == [3]
    assert waiting.take_all() == {}


def test_tokens_are_compared_with_the_text_by_their_bytes() -> None:
    fox = "🦊".encode()
    entries = [{"token": "?", "bytes": list(part)} for part in (b"a", fox[:2], fox[2:], b"<call>")]
    data = {"logprobs": {"content": entries}, "token_ids": [1, 2, 3, 4]}
    assert covering(data, "a🦊") == {"logprobs": {"content": entries[:3]}, "token_ids": [1, 2, 3]}
    assert covering(data, "b") == covering(data, "") == covering({}, "a") == {}


def test_objects_of_several_tokens_are_merged() -> None:
    assert merged([]) == {}
    assert merged([{"logprobs": {"content": [1]}}, {}, {"logprobs": {"content": [2], "refusal": [3]}}]) == {
        "logprobs": {"content": [1, 2], "refusal": [3]}
    }
