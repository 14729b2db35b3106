"""Smoke against both tiers as processes, and against servers that are wrong in one way each."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator

import pytest

from ops.lines import Line, Mark
from ops.smoke import Target, smoke
from tests.support.live import Live
from tests.support.processes import Processes
from tests.support.scripted_engine import ScriptedEngine, whole

KEY = "sk-smoke"
TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    keys = {"API_KEYS": f"smoke:{hashlib.sha256(KEY.encode()).hexdigest()}"}
    with Processes() as processes:
        yield processes.orchestrator(processes.standin(*TOOLS).url, **keys).url + "/v1"


def by_subject(lines: list[Line]) -> dict[str, Line]:
    return {line.subject: line for line in lines}


def test_all_is_well(url: str) -> None:
    lines = smoke(Target(url, KEY))
    assert [line for line in lines if line.mark is not Mark.OK] == []
    assert [line.subject for line in lines] == [
        "models", "chat", "streamed chat", "weather", "calculator", "your own tool", "wrong key"
    ]  # fmt: skip
    assert "56088" in by_subject(lines)["calculator"].found
    assert "tokens/s" in by_subject(lines)["streamed chat"].found


def test_wrong_key_of_ours_is_told_with_its_mend(url: str) -> None:
    lines = by_subject(smoke(Target(url, "sk-wrong")))
    assert lines["models"].mark is Mark.OK
    assert lines["chat"].mark is Mark.WRONG
    assert "refused" in lines["chat"].found
    assert "keys" in (lines["chat"].mend or "")


def test_long_answer(url: str) -> None:
    lines = by_subject(smoke(Target(url, KEY), long_seconds=0.0))
    assert lines["long answer"].mark is Mark.OK, lines["long answer"]
    short = by_subject(smoke(Target(url, KEY), long_seconds=300.0))["long answer"]
    assert (short.mark, "too soon" in short.found) == (Mark.WRONG, True)


def test_nobody_there() -> None:
    (line,) = smoke(Target("http://127.0.0.1:1/v1", KEY))
    assert line.mark is Mark.WRONG
    assert "cannot be reached" in line.found


def test_server_without_keys_is_told_of() -> None:
    with Processes() as processes:
        url = processes.orchestrator(processes.standin(*TOOLS).url).url + "/v1"
        assert by_subject(smoke(Target(url, None)))["wrong key"].mark is Mark.UNKNOWN
        taken = by_subject(smoke(Target(url, KEY)))["wrong key"]
    assert (taken.mark, "was taken" in taken.found) == (Mark.WRONG, True)


async def test_engine_that_is_wrong_in_each_way(engine: ScriptedEngine, server: Live) -> None:
    """An engine that writes no text, calls no tool, and answers a forced call with text."""
    engine.otherwise = whole("")
    lines = by_subject(await asyncio.to_thread(smoke, Target(f"{server.url}/v1", None)))
    assert {
        lines[name].mark for name in ("chat", "streamed chat", "weather", "calculator", "your own tool")
    } == {Mark.WRONG}
    assert "empty" in lines["chat"].found
    assert "expected one call" in lines["your own tool"].found


async def test_tool_that_is_not_called(engine: ScriptedEngine, server: Live) -> None:
    engine.otherwise = whole("I think it is sunny.")
    lines = by_subject(await asyncio.to_thread(smoke, Target(f"{server.url}/v1", None)))
    assert "did not call the tool" in lines["weather"].found
    assert "sunny" in lines["weather"].found
