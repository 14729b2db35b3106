from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import threading
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator

from orchestrator.errors import ToolError
from orchestrator.tools.toolbox import Toolbox, ToolContext
from tests.services.orchestrator.tools.asking import Make, call, echo, error_of, thread_name

request = contextvars.ContextVar("request", default="none")


async def test_async_tool_returns_a_result(make_toolbox: Make) -> None:
    result = await make_toolbox(echo).call("echo", ' {"times": 2, "text": "ab"} ', request_id="r1")
    assert result.content == "abab"
    assert result.outcome == "ok"
    assert result.arguments == '{"text":"ab","times":2}'
    assert result.parsed == {"text": "ab", "times": 2}
    assert 0 < result.seconds < 5


async def test_sync_tool_runs_in_its_own_thread_with_the_context_of_the_caller(make_toolbox: Make) -> None:
    def who() -> dict[str, str]:
        """Return the thread and the request."""
        return {"thread": threading.current_thread().name, "request": request.get()}

    request.set("r7")
    seen = json.loads((await call(make_toolbox(who), "who")).content)
    assert seen["thread"].startswith("tool-")
    assert seen["request"] == "r7"


async def test_context_is_passed_to_the_tool_and_not_in_the_schema(make_toolbox: Make) -> None:
    def identify(context: ToolContext) -> str:
        """Return the id of the request."""
        return context.request_id

    toolbox = make_toolbox(identify)
    assert (await call(toolbox, "identify", request_id="r42")).content == "r42"
    assert toolbox.specs()[0]["function"]["parameters"]["properties"] == {}
    result = await call(toolbox, "identify", context="mine")
    assert error_of(result) == "unknown argument 'context'. identify expects: no arguments"


@pytest.mark.parametrize(
    ("arguments", "replayed", "parsed", "message"),
    [
        ('{"text": 5', "{}", None, "the arguments are not valid JSON: EOF while parsing an object at line 1"),
        ("Infinity", "{}", None, "the arguments are not valid JSON: expected value"),
        ('["text"]', "{}", None, "the arguments are an array, not a JSON object"),
        (None, "{}", {}, "'text' is missing"),
        ('{"txt": "a"}', '{"txt":"a"}', {"txt": "a"}, "'text' is missing; unknown argument 'txt'"),
        (
            '{"text": "a", "times": "twice"}',
            '{"text":"a","times":"twice"}',
            {"text": "a", "times": "twice"},
            "'times': Input should be a valid integer, unable to parse string as an integer, not 'twice'",
        ),
    ],
)
async def test_invalid_arguments_are_reported_to_the_model(
    make_toolbox: Make, arguments: str | None, replayed: str, parsed: Any, message: str
) -> None:
    result = await make_toolbox(echo).call("echo", arguments, request_id="r1")
    assert result.outcome == "invalid_arguments"
    assert error_of(result).startswith(message)
    assert error_of(result).endswith(". echo expects: text (string, required), times (integer)")
    assert (result.arguments, result.parsed) == (replayed, parsed)


async def test_error_for_an_unknown_tool_lists_the_available_ones(make_toolbox: Make) -> None:
    for arguments in ("{}", "not json"):
        result = await make_toolbox(echo, thread_name).call("ecko", arguments, request_id="r1")
        assert result.outcome == "error"
        assert error_of(result) == "unknown tool 'ecko'; available tools: echo, thread_name"


async def test_tool_error_reaches_the_model_unchanged(
    make_toolbox: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse() -> None:
        """Refuse."""
        raise ToolError("no such city; try Paris")

    result = await call(make_toolbox(refuse), "refuse")
    assert result.outcome == "error"
    assert error_of(result) == "no such city; try Paris"
    assert caplog.records == []


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_model_gets_the_text_of_an_exception_and_the_log_its_traceback(
    make_toolbox: Make, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    def look_up(card: str) -> None:
        """Look up."""
        raise LookupError(f"card {card} is unknown")

    async def look_up_later(card: str) -> None:
        """Look up."""
        look_up(card)

    tool = look_up if kind == "sync" else look_up_later
    result = await call(make_toolbox(tool), tool.__name__, card="4111-1111")
    assert result.outcome == "error"
    assert error_of(result) == "LookupError: card 4111-1111 is unknown"
    (record,) = caplog.records
    assert record.name == "orchestrator.tools"
    assert record.levelno == logging.ERROR
    assert f"{tool.__qualname__} raised LookupError" in record.getMessage()
    assert "test_toolbox.py" in record.getMessage()
    assert "4111" not in caplog.text


async def test_text_of_an_exception_is_logged_at_level_debug(
    make_toolbox: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        """Fail."""
        raise OSError("disk is full")

    with caplog.at_level(logging.DEBUG, "orchestrator.tools"):
        await call(make_toolbox(fail), "fail")
    assert "disk is full" in caplog.text


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot be printed")


def bad_validator(value: str) -> str:
    raise KeyError(value)


async def test_unusual_failures_become_messages(make_toolbox: Make) -> None:
    async def unprintable() -> None:
        """Fail."""
        raise Unprintable

    async def own_timeout() -> None:
        """Fail."""
        raise TimeoutError("upstream")

    def stop() -> None:
        """Fail."""
        raise StopIteration("exhausted")

    def not_json() -> object:
        """Fail."""
        return object()

    async def validated(city: Annotated[str, AfterValidator(bad_validator)]) -> str:
        """Fail."""
        return city

    toolbox = make_toolbox(unprintable, own_timeout, stop, not_json, validated)
    for name, message in [
        ("unprintable", "<exception str() failed>"),
        ("own_timeout", "TimeoutError: upstream"),
        ("stop", "StopIteration"),
        ("not_json", "Unable to serialize unknown type"),
    ]:
        result = await call(toolbox, name)
        assert result.outcome == "error"
        assert message in error_of(result)
    result = await call(toolbox, "validated", city="Rome")
    assert (result.outcome, error_of(result)) == ("error", "KeyError: 'Rome'")


async def test_long_result_is_truncated_with_a_note(make_toolbox: Make) -> None:
    result = await call(make_toolbox(echo, result_limit=10), "echo", text="€", times=100)
    assert result.content == "€€€\n[cut here: 291 of 300 bytes are left out]"
    assert result.outcome == "ok"


@settings(max_examples=200)
@given(st.none() | st.text(st.characters()) | st.binary().map(lambda data: data.decode(errors="replace")))
def test_call_never_raises_whatever_the_arguments(arguments: str | None) -> None:
    async def check(language: Literal["en", "fr"] = "en", tags: list[str] | None = None) -> str:
        """Check."""
        return language

    result = asyncio.run(Toolbox([check]).call("check", arguments, request_id="r1"))
    assert result.outcome in ("ok", "invalid_arguments")
    assert isinstance(json.loads(result.arguments), dict)
    result.content.encode()


def test_toolbox_lists_and_contains_its_tools() -> None:
    toolbox = Toolbox([echo, thread_name])
    assert toolbox.names == {"echo", "thread_name"}
    assert "echo" in toolbox
    assert "ecko" not in toolbox
    assert [spec["function"]["name"] for spec in toolbox.specs()] == ["echo", "thread_name"]
    assert Toolbox([]).specs() == []


def test_two_tools_with_the_same_name_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"two tools are named 'echo', .*\.echo and .*\.echo: rename one"):
        Toolbox([echo, echo])


OURS = Toolbox([echo]).specs()[0]["function"]
MINE = {"type": "object", "properties": {"text": {"type": "string"}}}


@pytest.mark.parametrize(
    ("given_function", "completed"),
    [
        ({"name": "echo"}, OURS),
        ({"name": "echo", "description": None, "parameters": None}, OURS),
        ({"name": "echo", "description": "Mine"}, OURS | {"description": "Mine"}),
        ({"name": "echo", "parameters": MINE, "strict": True}, OURS | {"parameters": MINE, "strict": True}),
        (
            {"name": "echo", "parameters": MINE, "description": ""},
            {"name": "echo", "parameters": MINE, "description": ""},
        ),
        ({"name": "echo", "parameters": {}}, OURS),  # as clients send that leave them out
        ({"name": "echo", "strict": None}, OURS | {"strict": None}),
        ({"name": "theirs"}, {"name": "theirs"}),
        ({}, {}),
        ({"name": ["echo"]}, {"name": ["echo"]}),
        ("echo", "echo"),
        (None, None),
    ],
)
def test_tool_of_a_client_is_completed_and_never_overridden(given_function: Any, completed: Any) -> None:
    tool = {"type": "function", "function": given_function, "x": 1}
    before = json.dumps(tool)
    assert Toolbox([echo]).complete(tool) == {"type": "function", "function": completed, "x": 1}
    assert json.dumps(tool) == before


def test_tool_without_a_function_is_not_changed() -> None:
    tool = {"type": "web_search"}
    assert Toolbox([echo]).complete(tool) is tool
