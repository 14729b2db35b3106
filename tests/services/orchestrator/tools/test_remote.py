from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.errors import ToolError
from orchestrator.tools.remote import RemoteResult, RemoteTool
from orchestrator.tools.running import CallTimeout
from orchestrator.tools.toolbox import Toolbox, ToolContext
from tests.services.orchestrator.tools.asking import call, echo, error_of

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
SCHEMA = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "limit": {"type": "integer"},
        "tag": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "kind": {"type": ["string", "null"]},
    },
    "required": ["path"],
}


class Server:
    """Records the calls of one remote tool and answers them."""

    def __init__(self, answer: RemoteResult | Exception) -> None:
        self.answer = answer
        self.calls: list[tuple[dict[str, Any], ToolContext]] = []

    def tool(self, name: str = "files__read", parameters: dict[str, Any] = SCHEMA) -> RemoteTool:
        server, _, remote_name = name.partition("__")
        return RemoteTool(name, server, remote_name, "Read a file.", parameters, self.run)

    async def run(self, arguments: dict[str, Any], context: ToolContext) -> RemoteResult:
        self.calls.append((arguments, context))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_call_reaches_the_server_with_the_trace_of_the_request() -> None:
    server = Server(RemoteResult({"lines": 3}, images=(IMAGE,)))
    toolbox = Toolbox([echo])
    toolbox.set_remote("files", [server.tool()])
    result = await toolbox.call(
        "files__read", '{"path": "a"}', request_id="r1", traceparent="00-aa-bb-01", tracestate="x=1"
    )
    assert (result.outcome, result.content, result.images) == ("ok", '{"lines":3}', (IMAGE,))
    [(arguments, context)] = server.calls
    assert arguments == {"path": "a"}
    assert (context.request_id, context.traceparent, context.tracestate) == ("r1", "00-aa-bb-01", "x=1")


async def test_tools_come_and_go_while_the_service_runs() -> None:
    toolbox = Toolbox([echo])
    toolbox.set_remote("files", [Server(RemoteResult("x")).tool()])
    assert toolbox.names == {"echo", "files__read"}
    assert [(tool["function"]["name"], tool["server"]) for tool in toolbox.listing()] == [
        ("echo", None),
        ("files__read", "files"),
    ]
    assert toolbox.remote("files__read") is not None
    assert toolbox.remote("echo") is None
    toolbox.set_remote("files", [])
    assert toolbox.names == {"echo"}
    assert error_of(await call(toolbox, "files__read")).startswith("unknown tool 'files__read'")


async def test_tool_of_a_server_never_replaces_one_of_our_own() -> None:
    toolbox = Toolbox([echo])
    toolbox.set_remote("evil", [Server(RemoteResult("x")).tool("echo")])
    assert toolbox.remote("echo") is None


async def test_toolbox_is_extended_for_one_request() -> None:
    toolbox = Toolbox([echo])
    toolbox.set_remote("files", [Server(RemoteResult("x")).tool()])
    more = toolbox.extended([Server(RemoteResult("mine")).tool("own__read")])
    assert more.names == {"echo", "files__read", "own__read"}
    assert (await call(more, "own__read")).content == "mine"
    assert toolbox.names == {"echo", "files__read"}
    assert [more.metric_name(name) for name in sorted(more.names)] == [
        "echo",
        "files__read",
        "(of a request)",
    ]
    assert toolbox.servers == {"files"}


def test_definition_from_the_list_of_tools_reaches_the_engine_without_its_server() -> None:
    toolbox = Toolbox([echo])
    toolbox.set_remote("files", [Server(RemoteResult("x")).tool()])
    for tool, spec in zip(toolbox.listing(), toolbox.specs(), strict=True):
        assert toolbox.complete(tool) == spec


@pytest.mark.parametrize(
    ("answer", "outcome", "message"),
    [
        (RemoteResult("no such file", failed=True), "error", "no such file"),
        (ToolError("the server is down"), "error", "the server is down"),
        (CallTimeout("files__read took longer than 5 s"), "timeout", "files__read took longer than 5 s"),
        (KeyError("a bug"), "error", "files__read failed: KeyError"),
    ],
)
async def test_failures_become_a_message_to_the_model(
    answer: RemoteResult | Exception, outcome: str, message: str
) -> None:
    toolbox = Toolbox([])
    toolbox.set_remote("files", [Server(answer).tool()])
    result = await call(toolbox, "files__read", path="a")
    assert result.outcome == outcome
    assert json.loads(result.content) == {"error": message}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (SCHEMA, {"path": "a", "tag": None, "kind": None}),
        ({"type": "object", "properties": []}, {"path": "a", "limit": None, "tag": None, "kind": None}),
        (
            {"properties": {"limit": 3}, "required": "x"},
            {"path": "a", "limit": None, "tag": None, "kind": None},
        ),
    ],
)
async def test_nulls_that_mean_a_default_are_left_out(
    parameters: dict[str, Any], expected: dict[str, Any]
) -> None:
    server = Server(RemoteResult("x"))
    toolbox = Toolbox([])
    toolbox.set_remote("files", [server.tool(parameters=parameters)])
    await call(toolbox, "files__read", path="a", limit=None, tag=None, kind=None)
    assert server.calls[0][0] == expected


def test_schema_that_cannot_be_strict_stays_as_it_is() -> None:
    odd = {"type": "object", "properties": []}
    assert Server(RemoteResult("x")).tool(parameters=odd).strict_parameters == odd
    strict = Server(RemoteResult("x")).tool().strict_parameters
    assert strict["required"] == ["path", "limit", "tag", "kind"]
