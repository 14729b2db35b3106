"""Where the tools of a request run."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.chat.tool_plan import ToolPlan, plan_tools
from orchestrator.errors import InvalidRequest
from orchestrator.tools.calculator import calculate_math
from orchestrator.tools.toolbox import Toolbox

from .loop_requests import MATH, MINE

TOOLBOX = Toolbox([calculate_math])


def plan(execution: str | None = None, attached: tuple[str, ...] = (), **fields: Any) -> ToolPlan:
    request = {"messages": [{"role": "user", "content": "x"}], **fields}
    return plan_tools(request, TOOLBOX, execution=execution, attached=attached)


def test_registered_names_run_on_the_server_and_others_on_the_client() -> None:
    made = plan(tools=[MATH, MINE])
    assert made.server == {"calculate_math"}
    assert made.client == {"my_tool"}
    assert made.runs_tools
    assert made.changed
    assert made.request["tools"] == [TOOLBOX.specs()[0], MINE]


@pytest.mark.parametrize(
    ("execution", "fields"),
    [
        (None, {}),
        (None, {"tools": [MINE]}),
        ("client", {"tools": [MATH]}),
        (None, {"tools": [{"type": "web_search"}]}),
    ],
)
def test_request_without_server_tools_is_not_changed(execution: str | None, fields: dict[str, Any]) -> None:
    made = plan(execution, **fields)
    assert not made.runs_tools
    assert not made.changed


@pytest.mark.parametrize("tools", [[MATH], [MINE], [MATH, MINE], [{"type": "web_search"}]])
def test_tools_are_withheld_with_tool_choice_none(tools: list[Any]) -> None:
    made = plan(tools=tools, tool_choice="none", parallel_tool_calls=True, n=2)
    assert not made.runs_tools
    assert made.changed
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(made.request)
    relayed = plan("client", tools=tools, tool_choice="none")
    assert (relayed.request["tools"], relayed.changed) == (tools, False)


def test_tools_are_attached_only_to_requests_without_tools() -> None:
    assert plan(attached=("calculate_math",)).server == {"calculate_math"}
    assert plan(attached=("calculate_math",), tools=[MINE]).server == frozenset()
    assert not plan("client", attached=("calculate_math",)).runs_tools


@pytest.mark.parametrize(
    "choice", [{}, {"tool_choice": "auto"}, {"tool_choice": "none"}, {"tool_choice": None}]
)
@pytest.mark.parametrize("execution", [None, "client"])
def test_empty_list_of_tools_means_no_tools(execution: str | None, choice: dict[str, Any]) -> None:
    made = plan(execution, tools=[], **choice)
    assert not {"tools", "tool_choice"} & set(made.request)
    assert made.changed
    attached = plan(execution, attached=("calculate_math",), tools=[], **choice)
    assert attached.runs_tools is (execution is None and choice.get("tool_choice") != "none")


@pytest.mark.parametrize("fields", [{"tool_choice": "none"}, {"n": 2}, {"n": 2, "tool_choice": "none"}])
def test_attached_tools_do_not_change_requests_that_cannot_have_calls(fields: dict[str, Any]) -> None:
    made = plan(attached=("calculate_math",), **fields)
    assert not made.runs_tools
    assert not made.changed
    assert "tools" not in made.request


ODD: list[Any] = [None, 1, "x", [], {}, {"name": None}, {"name": ["calculate_math"]}, {"name": {}}]


@pytest.mark.parametrize("function", ODD)
@pytest.mark.parametrize("kind", ["web_search", "custom", None, 1, [], {}])
def test_tools_of_other_types_are_left_to_the_engine(kind: Any, function: Any) -> None:
    other = {"type": kind, "function": function}
    made = plan(tools=[other, MATH])
    assert made.request["tools"] == [other, TOOLBOX.specs()[0]]
    assert made.server == {"calculate_math"}
    assert made.parameters("calculate_math")["type"] == "object"
    assert not plan(tools=[other]).changed


@pytest.mark.parametrize(("tandem", "events"), [(None, False), ({}, False), ({"events": True}, True)])
def test_tandem_field_never_reaches_the_engine(tandem: Any, events: bool) -> None:
    made = plan(tools=[MATH], tandem=tandem)
    assert "tandem" not in made.request
    assert made.events is events


@pytest.mark.parametrize(
    ("execution", "fields", "param"),
    [
        ("elsewhere", {}, "x-tool-execution"),
        (None, {"tandem": 1}, "tandem"),
        (None, {"tandem": {"other": True}}, "tandem"),
        (None, {"tandem": {"events": "yes"}}, "tandem.events"),
        (None, {"tools": [MATH], "n": 2}, "n"),
    ],
)
def test_invalid_field_is_rejected_by_name(execution: str | None, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as rejected:
        plan(execution, **fields)
    assert (rejected.value.status, rejected.value.param) == (400, param)


def test_several_answers_are_allowed_if_the_client_runs_the_tools() -> None:
    assert not plan("client", tools=[MATH], n=2).runs_tools
    assert plan(tools=[MATH], n=1, stream=True).stream


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}])
def test_schema_that_says_nothing_is_completed(parameters: Any) -> None:
    function = {"name": "calculate_math", "parameters": parameters}
    made = plan(tools=[{"type": "function", "function": function}])
    assert made.request["tools"][0]["function"]["parameters"]["required"] == ["expression"]
