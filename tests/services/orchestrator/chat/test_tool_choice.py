"""Choices of tools that vLLM does not know, and the names of tools in any shape."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.chat.tool_choice import drop_choice_without_tools, function_name, withhold_tools
from orchestrator.errors import InvalidRequest

from .loop_requests import MATH, MINE
from .test_tool_plan import plan


def allowing(mode: str, *tools: Any) -> Any:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


SEARCH = {"type": "web_search"}


@pytest.mark.parametrize("mode", ["auto", "required"])
@pytest.mark.parametrize("execution", [None, "client"])
def test_allowed_tools_are_the_only_ones_offered(execution: str | None, mode: str) -> None:
    for allowed in ([MATH], [{"type": "function", "name": "calculate_math"}]):
        made = plan(execution, tools=[MATH, MINE, SEARCH], tool_choice=allowing(mode, *allowed))
        assert [tool["function"]["name"] for tool in made.request["tools"]] == ["calculate_math"]
        assert made.request["tool_choice"] == mode
        assert made.changed
        assert (made.server, made.client) == (frozenset() if execution else {"calculate_math"}, frozenset())
    made = plan(execution, tools=[MATH, MINE, SEARCH], tool_choice=allowing(mode, MINE, SEARCH))
    assert made.request["tools"] == [MINE, SEARCH]
    assert not made.runs_tools


def test_attached_tools_may_be_allowed() -> None:
    made = plan(attached=("calculate_math",), tool_choice=allowing("auto", MATH))
    assert made.server == {"calculate_math"}


def test_no_tool_is_offered_if_none_is_allowed() -> None:
    made = plan(tools=[MATH], tool_choice=allowing("auto"))
    assert not {"tools", "tool_choice"} & set(made.request)
    assert not made.runs_tools


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ([MATH], {"type": "allowed_tools"}),
        ([MATH], allowing("never", MATH)),
        ([MATH], allowing("auto", MINE)),
        ([MATH], allowing("auto", None, 1, [])),
        ([MATH], allowing("required")),
        (None, allowing("auto", MATH)),
    ],
)
def test_invalid_choice_of_allowed_tools_is_rejected(tools: Any, choice: Any) -> None:
    with pytest.raises(InvalidRequest) as rejected:
        plan(tools=tools, tool_choice=choice)
    assert (rejected.value.status, rejected.value.param) == (400, "tool_choice")


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        (MATH, "calculate_math"),
        ({"function": {"name": "x"}}, "x"),
        ({"type": "web_search"}, None),
        ({"type": "custom", "function": {"name": "x"}}, None),
        ({"type": "function", "function": None}, None),
        ({"type": "function", "function": {"name": ["x"]}}, None),
        (None, None),
        ([], None),
    ],
)
def test_only_function_tools_have_a_name(tool: Any, name: str | None) -> None:
    assert function_name(tool) == name


def test_choice_that_needs_tools_stays_for_the_engine_to_reject() -> None:
    request = {"tool_choice": "required"}
    drop_choice_without_tools(request)
    assert request == {"tool_choice": "required"}
    withhold_tools(request)
    assert request == {}
