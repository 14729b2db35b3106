"""The chat route: the same answer as a stream and as one object."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from orchestrator.api.chat import _Folder
from orchestrator.chat.conversation import Chunk, Ending
from orchestrator.chat.tool_plan import ToolPlan
from tests.support.live import Json, Live, text_of
from tests.support.scripted_engine import ScriptedEngine, call, call_deltas, stream, text, whole

SUM = '{"expression": "1+1"}'
MATH: Any = {"type": "function", "function": {"name": "calculate_math"}}
MINE: Any = {"type": "function", "function": {"name": "my_tool"}}


async def test_stream_and_whole_answer_have_the_same_content(server: Live, engine: ScriptedEngine) -> None:
    engine.play(
        stream(*text("Let me see."), *call_deltas("calculate_math", SUM)), stream(*text("It", " is 2.")),
        whole("Let me see.", calls=[call("calculate_math", SUM)]), whole("It is 2."),
    )  # fmt: skip
    events = await server.chat_events(tools=[MATH], stream_options={"include_usage": True})
    answer = (await server.chat(tools=[MATH])).json()
    assert text_of(events) == answer["choices"][0]["message"]["content"] == "Let me see.\n\nIt is 2."
    *_, usage, done = events
    assert isinstance(usage, dict)
    assert usage["usage"] == answer["usage"]
    assert done == "[DONE]"


async def test_calls_for_the_client_are_numbered_and_complete(server: Live, engine: ScriptedEngine) -> None:
    calls = [call("my_tool", {"x": 1}, id="a"), call("my_tool", {"x": 2}, id="b")]
    engine.play(
        whole(calls=calls),
        stream(*call_deltas("my_tool", '{"x": 1}', 0, "a"), *call_deltas("my_tool", '{"x": 2}', 1, "b")),
    )
    choice = (await server.chat(tools=[MATH, MINE])).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"] == calls
    gathered: dict[int, str] = {}
    for event in await server.chat_events(tools=[MATH, MINE]):
        for choice in event["choices"] if isinstance(event, dict) else []:
            for delta in choice["delta"].get("tool_calls", []):
                arguments = delta["function"].get("arguments", "")
                gathered[delta["index"]] = gathered.get(delta["index"], "") + arguments
    assert gathered == {0: '{"x": 1}', 1: '{"x": 2}'}


@pytest.mark.parametrize("streaming", [False, True])
async def test_trace_of_the_calls_is_sent_only_on_request(
    server: Live, engine: ScriptedEngine, streaming: bool
) -> None:
    def play() -> None:
        if streaming:
            engine.play(stream(*call_deltas("calculate_math", SUM)), stream(*text("2")))
        else:
            engine.play(whole(calls=[call("calculate_math", SUM)]), whole("2"))

    async def trace(**fields: Any) -> list[Json]:
        play()
        if streaming:
            events = await server.chat_events(tools=[MATH], **fields)
            return [event["tandem"] for event in events if isinstance(event, dict) and "tandem" in event]
        answer = (await server.chat(tools=[MATH], **fields)).json()
        return list(answer.get("tandem", {}).get("events", []))

    assert await trace() == []
    started, finished = await trace(tandem={"events": True})
    assert (started["type"], finished["type"]) == ("tool_call.started", "tool_call.finished")
    assert started["id"] == finished["id"]
    assert "tandem" not in engine.requests[-1].json


async def test_request_without_server_tools_is_relayed_unchanged(
    server: Live, engine: ScriptedEngine
) -> None:
    engine.play(whole("ok"), whole("ok"))
    tools = b'[{"type": "function", "function": {"name": "my_tool"}}]'
    sent = b'{"messages": [{"role": "user", "content": "x"}],  "tools": %b}' % tools
    await server.http.post("/v1/chat/completions", content=sent)
    assert engine.requests[0].body == sent
    await server.chat(tools=[MATH], headers={"x-tool-execution": "client"})
    assert engine.requests[1].json["tools"] == [MATH]


@pytest.mark.parametrize("include_usage", [True, False, None])
async def test_every_chunk_has_usage_if_the_client_asks_for_it(
    server: Live, engine: ScriptedEngine, include_usage: bool | None
) -> None:
    """OpenAI: all other chunks have `usage: null`."""
    engine.play(
        stream(*text("Let me see."), *call_deltas("calculate_math", '{"expression": "1+1"}')),
        stream(*text("It is ", "2.")),
    )
    options: Json = {} if include_usage is None else {"stream_options": {"include_usage": include_usage}}
    events = await server.chat_events(tools=[MATH], tandem={"events": True}, **options)
    *chunks, done = events
    assert done == "[DONE]"
    if include_usage:
        assert [chunk["usage"] is not None for chunk in chunks if isinstance(chunk, dict)] == [
            *[False] * (len(chunks) - 1), True,
        ]  # fmt: skip
    else:
        assert not any("usage" in chunk for chunk in chunks)


def test_folding_takes_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine may stream an answer that is not streamed to the client."""
    folder = _Folder(ToolPlan({"messages": []}))
    pieces = 20_000
    call = {"id": "c", "type": "function", "function": {"name": "own"}}
    chunk = {"id": "x", "choices": [{"index": 0}]}
    copied = 0

    class Text(str):
        def __add__(self, other: str) -> Text:
            nonlocal copied
            copied += len(self) + len(other)
            return Text(str.__add__(self, other))

    for number in range(pieces):
        delta: dict[str, Any] = {"content": Text("ab"), "reasoning": Text("c")}
        function = {"arguments": Text("[")}
        delta["tool_calls"] = [{"index": 0, **(call if number == 0 else {}), "function": function}]
        folder.fold(Chunk(chunk, delta, None))
    folder.fold(Ending(chunk, "tool_calls", {}))
    message = folder.answer["choices"][0]["message"]
    assert message["content"] == "ab" * pieces
    assert message["reasoning"] == "c" * pieces
    assert message["tool_calls"][0]["function"]["arguments"] == "[" * pieces
    assert copied == 0


async def test_requests_leave_no_reference_cycles(server: Live, engine: ScriptedEngine) -> None:
    tagged = f'<tool_call>{{"name": "calculate_math", "arguments": {SUM}}}</tool_call>'
    weather = {"type": "function", "function": {"name": "get_current_weather"}}
    place = '{"location": "Paris"}'

    async def ask(*replies: Any, stream: bool = False, **fields: Any) -> None:
        engine.play(*replies)
        response = await server.chat(stream=stream, **fields)
        assert response.status_code == (200 if replies else 400)

    def left() -> list[str]:
        gc.collect()
        kinds = [type(item).__module__ + "." + type(item).__qualname__ for item in gc.garbage]
        gc.garbage.clear()
        return [kind for kind in kinds if kind.startswith("orchestrator.")]

    left()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await ask(whole("2"))
        await ask(stream(*text("2")), stream=True)
        await ask(whole(calls=[call("calculate_math", SUM)]), whole("2"), tools=[MATH])
        await ask(stream(*call_deltas("calculate_math", SUM)), stream(*text("2")), stream=True, tools=[MATH])
        await ask(whole(calls=[call("get_current_weather", place)]), whole("2"), tools=[weather])
        await ask(whole(tagged), whole("2"), tools=[MATH], tandem={"events": True})
        await ask(whole(calls=[call("my_tool", {})]), tools=[MATH, MINE])
        await ask(whole(calls=[call("my_tool", {})]), tools=[MATH, MINE], parallel_tool_calls=False)
        await ask(tools=[MATH], n=2)
        assert left() == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
