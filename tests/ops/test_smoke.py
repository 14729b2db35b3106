"""Smoke against both tiers as processes, and against servers that are wrong in one way each."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator

import pytest

from ops.report import Mark, Result
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


def by_subject(results: list[Result]) -> dict[str, Result]:
    return {result.subject: result for result in results}


def test_all_is_well(url: str) -> None:
    results = smoke(Target(url, KEY))
    assert [result for result in results if result.mark is not Mark.OK] == []
    assert [result.subject for result in results] == [
        "models", "chat", "streamed chat", "weather", "calculator", "your own tool", "wrong key"
    ]  # fmt: skip
    assert "56088" in by_subject(results)["calculator"].found
    assert "tokens/s" in by_subject(results)["streamed chat"].found


def test_wrong_key_of_ours_is_told_with_its_mend(url: str) -> None:
    results = by_subject(smoke(Target(url, "sk-wrong")))
    assert results["models"].mark is Mark.OK
    assert results["chat"].mark is Mark.WRONG
    assert "refused" in results["chat"].found
    assert "keys" in (results["chat"].fix or "")


def test_long_answer(url: str) -> None:
    results = by_subject(smoke(Target(url, KEY), long_seconds=0.0))
    assert results["long answer"].mark is Mark.OK, results["long answer"]
    short = by_subject(smoke(Target(url, KEY), long_seconds=300.0))["long answer"]
    assert (short.mark, "too soon" in short.found) == (Mark.WRONG, True)


def test_nobody_there() -> None:
    (result,) = smoke(Target("http://127.0.0.1:1/v1", KEY))
    assert result.mark is Mark.WRONG
    assert "cannot be reached" in result.found


def test_server_without_keys_is_told_of() -> None:
    with Processes() as processes:
        url = processes.orchestrator(processes.standin(*TOOLS).url).url + "/v1"
        assert by_subject(smoke(Target(url, None)))["wrong key"].mark is Mark.UNKNOWN
        taken = by_subject(smoke(Target(url, KEY)))["wrong key"]
    assert (taken.mark, "was taken" in taken.found) == (Mark.WRONG, True)


async def test_engine_that_is_wrong_in_each_way(engine: ScriptedEngine, server: Live) -> None:
    """An engine that writes no text, calls no tool, and answers a forced call with text."""
    engine.otherwise = whole("")
    results = by_subject(await asyncio.to_thread(smoke, Target(f"{server.url}/v1", None)))
    assert {
        results[name].mark for name in ("chat", "streamed chat", "weather", "calculator", "your own tool")
    } == {Mark.WRONG}
    assert "empty" in results["chat"].found
    assert "expected one call" in results["your own tool"].found


async def test_tool_that_is_not_called(engine: ScriptedEngine, server: Live) -> None:
    engine.otherwise = whole("I think it is sunny.")
    results = by_subject(await asyncio.to_thread(smoke, Target(f"{server.url}/v1", None)))
    assert "did not call the tool" in results["weather"].found
    assert "sunny" in results["weather"].found
