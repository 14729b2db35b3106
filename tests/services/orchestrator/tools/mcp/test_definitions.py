from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ToolError
from orchestrator.tools.context import ToolContext
from orchestrator.tools.mcp.definitions import define, result_of_call
from orchestrator.tools.remote import RemoteTool

Json = dict[str, Any]

PIXEL = "iVBORw0KGgo="


def offer(name: Any = "read", **fields: Any) -> Json:
    return {"name": name, "inputSchema": {"type": "object", "properties": {}}, **fields}


async def never(*_: Any) -> Json:
    raise AssertionError


def defined(*found: Any, allowed: frozenset[str] | None = None) -> tuple[list[RemoteTool], list[str]]:
    return define("files", found, allowed=allowed, run=never, takes_images=True)


def test_tool_gets_the_name_of_its_server() -> None:
    [tool], problems = defined(
        offer("admin.list/all", description="List.", annotations={"readOnlyHint": True})
    )
    assert (tool.name, tool.remote_name) == ("files__admin_list_all", "admin.list/all")
    assert (tool.description, tool.annotations) == ("List.", {"readOnlyHint": True})
    assert not problems


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (5, "a tool has no name"),
        (offer(""), "a tool has no name"),
        (offer(["x"]), "a tool has no name"),
        (offer("x" * 58), f"the name files__{'x' * 58} has 65 characters, of which models accept 64"),
        (offer(inputSchema="object"), "read has no schema of its arguments"),
        (offer(inputSchema={"type": "array"}), "the arguments of read are not an object"),
        (offer(inputSchema={"x": "y" * 70_000}), "the schema of read has 70,008 bytes; at most 65,536"),
    ],
)
def test_unusable_tools_are_left_out_with_the_reason(found: Any, problem: str) -> None:
    tools, problems = defined(found, offer("fine"))
    assert [tool.remote_name for tool in tools] == ["fine"]
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_names_of_the_longest_length_are_accepted() -> None:
    [tool], _ = defined(offer("x" * 57))
    assert len(tool.name) == 64


def test_schema_that_cannot_be_written_is_left_out() -> None:
    deep: Json = {}
    for _ in range(300):
        deep = {"properties": {"a": deep}}
    tools, problems = defined(offer(inputSchema=deep))
    assert not tools
    assert problems == ["the schema of read is nested too deeply"]


def test_names_that_become_the_same_are_used_once() -> None:
    tools, problems = defined(offer("a.b"), offer("a/b"))
    assert [tool.remote_name for tool in tools] == ["a.b"]
    assert problems == ["a/b and a.b would both be named files__a_b"]


def test_allowed_tools_that_the_server_lacks_are_reported() -> None:
    tools, problems = defined(offer("a"), offer("b"), allowed=frozenset({"b", "z"}))
    assert [tool.remote_name for tool in tools] == ["b"]
    assert problems == ["the server has no tool z"]


async def test_arguments_are_mirrored_in_the_headers_that_the_server_wants() -> None:
    sent: list[tuple[Any, ...]] = []

    async def run(*call: Any) -> Json:
        sent.append(call)
        return {"content": []}

    properties = {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "dry": {"type": "boolean", "x-mcp-header": "Dry-Run"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "odd": {"type": "string", "x-mcp-header": "a b\r\n"},
        "text": {"type": "string"},
    }
    schema = {"type": "object", "properties": properties}
    [tool], _ = define("s", [offer(inputSchema=schema)], allowed=None, run=run, takes_images=False)
    arguments = {"region": "Zürich", "dry": True, "count": 3, "odd": "x", "text": "y"}
    await tool.run(arguments, ToolContext("r1"))
    headers = sent[0][2]
    assert headers == {
        "Mcp-Param-Region": "=?base64?WsO8cmljaA==?=", "Mcp-Param-Dry-Run": "true", "Mcp-Param-Count": "3"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("result", "value"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\nb"),
        ({"content": [{"type": "text", "text": '{"n": 1}'}], "structuredContent": {"n": 1}}, {"n": 1}),
        ({"structuredContent": [1]}, [1]),
        ({"content": [{"type": "resource", "resource": {"uri": "a:b", "text": "t"}}]}, "t"),
        (
            {"content": [{"type": "resource", "resource": {"uri": "a:b", "blob": "AA=="}}]},
            "[the resource a:b is left out: it is not text]",
        ),
        ({"content": [{"type": "resource_link", "uri": "file:///x", "name": "x"}]}, "x: file:///x"),
        ({"content": [{"type": "audio", "data": "AA=="}]}, "[content of type audio is left out]"),
        ({"content": [5, {"type": "text", "text": 5}]},
         "[content of type None is left out]\n[content of type text is left out]"),
        ({"content": []}, ""),
    ],
)  # fmt: skip
def test_result_as_the_model_gets_it(result: Json, value: Any) -> None:
    found = result_of_call("s__t", result, takes_images=True)
    assert (found.value, found.failed, found.images) == (value, False, ())


def test_error_of_a_tool_is_its_text() -> None:
    result = {"content": [{"type": "text", "text": "no"}], "structuredContent": {"a": 1}, "isError": True}
    found = result_of_call("s__t", result, takes_images=True)
    assert (found.value, found.failed) == ("no", True)


def test_images_follow_with_a_note() -> None:
    image = {"type": "image", "mimeType": "image/png", "data": PIXEL}
    found = result_of_call("s__t", {"content": [image], "structuredContent": {"n": 1}}, takes_images=True)
    assert found.value == {"result": {"n": 1}, "notes": ["[image 1 follows]"]}
    assert found.images[0]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"
    blind = result_of_call("s__t", {"content": [image]}, takes_images=False)
    assert not blind.images
    assert blind.value == "[an image of type image/png is left out: the model takes no images]"


@pytest.mark.parametrize(
    "image",
    [
        {"mimeType": "image/png", "data": "not base64!"},
        {"mimeType": "text/html", "data": PIXEL},
        {"mimeType": "image/svg+xml", "data": PIXEL},
        {"mimeType": 5, "data": PIXEL},
        {"mimeType": "image/png", "data": "A" * 4_194_308},
        {"mimeType": "image/png"},
    ],
)
def test_images_that_are_none_are_left_out(image: Json) -> None:
    found = result_of_call("s__t", {"content": [{"type": "image", **image}]}, takes_images=True)
    assert not found.images
    assert "left out" in found.value


def test_number_of_images_is_bounded() -> None:
    image = {"type": "image", "mimeType": "image/png", "data": PIXEL}
    assert len(result_of_call("s__t", {"content": [image] * 20}, takes_images=True).images) == 8


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
FIELDS = ("name", "inputSchema", "description", "annotations")
BLOCK = st.fixed_dictionaries({"type": st.sampled_from(["text", "image", "resource", "resource_link", 5])})


@given(st.lists(JSON | st.dictionaries(st.sampled_from(FIELDS), JSON), max_size=4))
def test_any_list_of_tools_is_survived(found: list[Any]) -> None:
    tools, _ = defined(*found)
    for tool in tools:
        assert tool.spec()["function"]["name"].startswith("files__")
        assert isinstance(tool.strict_parameters, dict)
        tool.given({"a": None})


@given(st.dictionaries(st.sampled_from(["content", "structuredContent", "isError", "resultType"]), JSON))
def test_any_result_is_a_value_or_an_error_of_the_tool(result: Json) -> None:
    with contextlib.suppress(ToolError):
        assert isinstance(result_of_call("s__t", result, takes_images=True).images, tuple)
