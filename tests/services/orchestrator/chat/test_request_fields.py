"""Every field that vLLM or OpenAI knows has a decision, and each round gets the fields that were decided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from orchestrator.chat.request_fields import EVERY_ROUND, OTHER_FIELDS, Rounds
from tests.e2e.engine.request_fields import RECORDED
from tests.support.live import live
from tests.support.scripted_engine import ScriptedEngine, call, call_deltas, stream, text, whole

from .loop_requests import MATH

VLLM: Any = json.loads(RECORDED.read_text())
OPENAI = frozenset(CompletionCreateParamsStreaming.__annotations__)
MODELS = Path("services/vllm/models.yaml")


def test_fields_were_recorded_from_the_version_that_is_deployed() -> None:
    deployed = yaml.safe_load(MODELS.read_text())["vllm"]
    assert VLLM["vllm"] == deployed, "record the fields of the new vLLM: make record-wire"


def test_every_field_of_vllm_and_of_openai_has_a_decision() -> None:
    decided = EVERY_ROUND | set(OTHER_FIELDS)
    undecided = (set(VLLM["fields"]) | OPENAI) - decided
    assert not undecided, "decide in chat/request_fields.py in which rounds these are sent"
    assert decided - set(VLLM["fields"]) - OPENAI == {"tandem"}
    assert not EVERY_ROUND & set(OTHER_FIELDS)


def value_of(name: str) -> Any:
    values: dict[str, Any] = {
        "n": 1,
        "response_format": {"type": "json_object"},
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [MATH],
        "tandem": {"events": True},
        "stream_options": {"continuous_usage_stats": True},
        "tool_choice": "required",
    }
    return values.get(name, name)


def scripted(streaming: bool) -> list[Any]:
    calls = ["1+1", "2+2"]
    if streaming:
        turns = [stream(*call_deltas("calculate_math", f'{{"expression": "{c}"}}')) for c in calls]
        return [*turns, stream(*text("End"))]
    return [*(whole(calls=[call("calculate_math", {"expression": c})]) for c in calls), whole("End")]


@pytest.mark.parametrize("streaming", [False, True])
async def test_each_round_gets_the_fields_that_were_decided(engine: ScriptedEngine, streaming: bool) -> None:
    names = EVERY_ROUND | set(OTHER_FIELDS) | {"a_field_of_tomorrow"}
    request = {name: value_of(name) for name in names} | {"stream": streaming}
    engine.play(*scripted(streaming))
    async with live(engine.url, MAX_TOOL_ROUNDS="2") as server:
        assert (await server.http.post("/v1/chat/completions", json=request)).status_code == 200
    assert len(engine.requests) == 3  # with tools, with tools, without
    for number, sent in enumerate(engine.requests):
        for name in names:
            rounds, _ = OTHER_FIELDS.get(name, (Rounds.EVERY, ""))
            expected = {
                Rounds.EVERY: True,
                Rounds.FIRST: number == 0,
                Rounds.LAST: number == 2,
                Rounds.WITH_TOOLS: number < 2,
                Rounds.OWN: True,
                Rounds.NEVER: False,
            }[rounds]
            assert (name in sent.json) is expected, (name, number)
            if expected and rounds is not Rounds.OWN and name not in ("tools", "stream"):
                assert sent.json[name] == request[name]


@pytest.mark.parametrize("said", [None, " six"])
async def test_turn_that_continues_a_message_is_remembered_as_one_with_it(
    engine: ScriptedEngine, said: str | None
) -> None:
    engine.play(whole(said, calls=[call("calculate_math", {"expression": "2*3"})]), whole("End"))
    start = {"role": "assistant", "content": "It is", "name": "a"}
    messages = [{"role": "user", "content": "Hi"}, start]
    async with live(engine.url) as server:
        await server.chat(
            messages=messages, tools=[MATH], continue_final_message=True, add_generation_prompt=False
        )
    _, turn, result = engine.requests[1].json["messages"]
    assert (turn["role"], turn["name"], turn["content"]) == ("assistant", "a", f"It is{said or ''}")
    assert turn["tool_calls"][0]["id"] == result["tool_call_id"]
