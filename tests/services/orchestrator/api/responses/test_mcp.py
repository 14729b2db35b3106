"""Tools that are named by their server: listings, calls, and calls that the client has to approve."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.responses.mcp import brought_servers, echo, labels_of, names_server, read_tools
from orchestrator.errors import InvalidRequest
from orchestrator.tools.mcp.requested import ServerUnavailable
from orchestrator.tools.toolbox import RemoteResult, RemoteTool, Toolbox
from tests.support.live import Live, events_of
from tests.support.openai_types import check, check_response_events
from tests.support.scripted_engine import ScriptedEngine, call, call_deltas, stream, text, whole

SUM = '{"expression": "1+1"}'
OWN: Any = {
    "type": "mcp",
    "server_label": "tandem",
    "server_url": "https://x.test",
    "headers": {"a": "secret"},
}


def add(x: int, y: int) -> int:
    """Add two numbers."""
    return x + y


async def run(arguments: Any, _context: Any) -> RemoteResult:
    return RemoteResult(arguments)


def toolbox() -> Toolbox:
    made = Toolbox([add])
    names = ("list", "read")
    made.set_remote(
        "files", [RemoteTool(f"files__{n}", "files", n, "d", {"type": "object"}, run) for n in names]
    )
    return made


def entry(**fields: Any) -> Any:
    return {"type": "mcp", "server_label": "files", **fields}


def test_labels() -> None:
    assert labels_of(toolbox()) == {
        "add": ("tandem", "add"), "files__list": ("files", "list"), "files__read": ("files", "read"),
    }  # fmt: skip


def test_known_servers_are_recognised() -> None:
    assert names_server([entry()], toolbox())
    assert not names_server([entry(server_label="other"), {"type": "function"}, 1], toolbox())
    assert not names_server(None, toolbox())
    assert names_server([entry(server_label="other", server_url="https://x.test")], toolbox())


def test_servers_that_the_request_brings() -> None:
    own = entry(server_label="other", server_url="https://x.test")
    found = brought_servers([OWN, entry(server_url="https://x.test"), own], toolbox())
    assert [(one.where, one.tool) for one in found] == [("tools[2]", own)]


def test_calls_to_a_server_that_the_request_brings_are_approved_by_default() -> None:
    assert read_tools([entry()], toolbox(), ["files"]).approval == {"files__list", "files__read"}
    assert read_tools([entry(require_approval="never")], toolbox(), ["files"]).approval == set()


def test_server_that_is_down_is_named() -> None:
    made = toolbox()
    made.set_remote("files", ())
    with pytest.raises(ServerUnavailable) as caught:
        read_tools([entry()], made)
    assert "files" in caught.value.message


def test_tools_of_a_server() -> None:
    found = read_tools([entry(), OWN], toolbox())
    assert [tool["function"]["name"] for tool in found.tools] == ["files__list", "files__read", "add"]
    assert found.approval == set()
    assert [[tool["name"] for tool in item["tools"]] for item in found.listings] == [
        ["list", "read"],
        ["add"],
    ]
    assert found.name_of("files", "read") == "files__read"
    assert found.name_of("files", "write") is None


@pytest.mark.parametrize("allowed", [["read"], {"tool_names": ["read"]}])
def test_allowed_tools(allowed: Any) -> None:
    assert [t["function"]["name"] for t in read_tools([entry(allowed_tools=allowed)], toolbox()).tools] == [
        "files__read"
    ]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("never", set()),
        (None, set()),
        ("always", {"files__list", "files__read"}),
        ({"always": {"tool_names": ["read"]}}, {"files__read"}),
        ({"never": {"tool_names": ["read"]}}, {"files__list"}),
        ({}, set()),
    ],
)
def test_required_approval(given: Any, wanted: set[str]) -> None:
    assert read_tools([entry(require_approval=given)], toolbox()).approval == wanted


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"server_label": "other"}, "tools[0].server_label"),
        ({"server_label": None}, "tools[0].server_label"),
        ({"allowed_tools": ["write"]}, "tools[0].allowed_tools"),
        ({"allowed_tools": "read"}, "tools[0].allowed_tools"),
        ({"require_approval": "sometimes"}, "tools[0].require_approval"),
        (
            {"require_approval": {"always": {"tool_names": ["x"]}}},
            "tools[0].require_approval.always.tool_names",
        ),
    ],
)
def test_error_names_the_field(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_tools([entry(**fields)], toolbox())
    assert caught.value.param == param
    assert param in caught.value.message


def test_headers_are_not_repeated() -> None:
    assert "secret" not in str(echo(OWN))


async def ask(server: Live, **fields: Any) -> Any:
    payload = {"model": "scripted", "input": "Hi", "tools": [OWN], **fields}
    return await server.http.post("/v1/responses", json=payload)


@pytest.mark.parametrize("streaming", [False, True])
async def test_calls_through_the_server(server: Live, engine: ScriptedEngine, streaming: bool) -> None:
    first = (
        stream(*call_deltas("calculate_math", SUM))
        if streaming
        else whole(calls=[call("calculate_math", SUM)])
    )
    engine.play(first, stream(*text("2")) if streaming else whole("2"), whole("Yes."))
    answer = await ask(server, stream=streaming)
    if streaming:
        seen = [event for event in events_of(answer.text) if isinstance(event, dict)]
        check_response_events(seen)
        response = seen[-1]["response"]
    else:
        response = answer.json()
        check(response)
    listing, called, _ = response["output"]
    assert (listing["type"], listing["server_label"]) == ("mcp_list_tools", "tandem")
    assert (called["type"], called["name"], called["output"]) == (
        "mcp_call",
        "calculate_math",
        '{"result":2}',
    )
    again = await ask(server, input=[*response["output"], {"role": "user", "content": "Sure?"}], tools=[])
    assert [item["type"] for item in again.json()["output"]] == ["message"]
    said = engine.requests[-1].json["messages"]
    assert said[0]["tool_calls"][0]["function"]["name"] == "calculate_math"


@pytest.mark.parametrize("approve", [False, True])
async def test_call_waits_for_approval(server: Live, engine: ScriptedEngine, approve: bool) -> None:
    engine.play(whole(calls=[call("calculate_math", SUM)]), whole("Done."))
    tools = [{**OWN, "require_approval": "always"}]
    output = (await ask(server, tools=tools)).json()["output"]
    assert [item["type"] for item in output] == ["mcp_list_tools", "mcp_approval_request"]
    response = {"type": "mcp_approval_response", "approval_request_id": output[1]["id"], "approve": approve}
    answer = (
        await ask(server, tools=tools, input=[{"role": "user", "content": "Hi"}, *output, response])
    ).json()
    check(answer)
    assert [item["type"] for item in answer["output"]] == ["mcp_call", "message"][0 if approve else 1 :]
    result = engine.requests[-1].json["messages"][-1]["content"]
    assert ("result" in result) == approve
    if approve:
        assert answer["output"][0]["approval_request_id"] == output[1]["id"]
        assert answer["output"][0]["output"] == '{"result":2}'
