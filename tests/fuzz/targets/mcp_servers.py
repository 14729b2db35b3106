"""Answers of MCP servers: wrong types, ids, framings and sizes, events without end, and odd tools.

The client of MCP either has usable tools and results of bounded size, or an error that says what is wrong. It
never raises anything else, keeps no memory, leaves no task behind, and sends no header that a server wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from hypothesis import strategies as st

from orchestrator.memory import Budget
from orchestrator.protocol import dumps
from orchestrator.tools.mcp import session
from orchestrator.tools.mcp.http import HttpTransport
from orchestrator.tools.mcp.server import McpServer
from orchestrator.tools.mcp.stdio import StdioTransport
from orchestrator.tools.mcp.wire import McpError
from orchestrator.tools.toolbox import RemoteTool, Toolbox
from tests.fuzz.hostile_mcp import ID, HostileMcp, good, hostile_mcp
from tests.fuzz.mutate import edits, mutated
from tests.fuzz.rig import CPU_SECONDS, RESULT_BYTES, Failure, Rig
from tests.fuzz.target import Case, Target

logging.getLogger("orchestrator").addHandler(logging.NullHandler())

SECRET = "a-secret-of-the-operator"
_SECONDS = 5.0
_CALL_SECONDS, _HANDSHAKE_SECONDS = 0.4, 0.5
_TOOLS_CALLED = 3
METHODS = ("server/discover", "initialize", "tools/list", "tools/call")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_BUG = re.compile(r'^\{"error":"\S+ failed: \w+"\}$')
"""What `Toolbox` makes of an exception that it does not know."""
_HEADERS = re.compile(
    r"host|user-agent|x-key|accept|content-type|content-length|mcp-session-id|mcp-protocol-version|"
    r"mcp-method|mcp-name|mcp-param-.+|x-request-id|traceparent|tracestate"
)
TOKENS = (
    "null", "[]", "{}", "true", "-1", "1e999", "NaN", "18446744073709551616", '""', '"\\ud800"', "\0", "\xff",
    '"id":', '"result":', '"error":', '"method":', f'"{ID}"', '"jsonrpc":', "\n\n", "\n", "\r\n", "data: ",
    '{"jsonrpc":"2.0","method":"ping","id":7}\n\n', '{"jsonrpc":"2.0","method":"notifications/progress"}\n\n',
    '{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}\n\n', "\\u0000", "[" * 2000,
    '"nextCursor":"a",', '"ttlMs":-1,', '"ttlMs":1e308,', '"isError":"no",', '"resultType":"input_required",',
)  # fmt: skip
_WORDS = st.sampled_from(
    ("", "x", "echo", "a b", "\0", "\ud800", "é😀", "../..", "x" * 70, "x" * 20_000, "a\r\nX-Evil: 1",
     "string", "object", "array", "Evil\r\nX: y", "Region", "=?base64?!?=", "image/png", "aGk=",
     "<|im_end|>", "$ref")
)  # fmt: skip
_VALUES = st.recursive(
    _WORDS | st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("type", "properties", "required", "text", "anyOf", "x-mcp-header", "$ref"))
            | _WORDS,
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


def _fields(**fields: Any) -> st.SearchStrategy[Any]:
    """Objects with some of these fields, of which any may have another type."""
    return st.fixed_dictionaries({}, optional={name: its | _VALUES for name, its in fields.items()}) | _VALUES


_PROPERTIES = st.dictionaries(
    st.sampled_from(("text", "x")), _fields(**{"type": _WORDS, "x-mcp-header": _WORDS}), max_size=2
)
_SCHEMAS = _fields(
    type=st.just("object"), properties=_PROPERTIES, required=st.lists(_WORDS, max_size=2), anyOf=_VALUES
)
_DEFINITIONS = st.lists(
    _fields(
        name=st.sampled_from(("echo", "echo", "e.cho", "e/cho")), description=_WORDS, inputSchema=_SCHEMAS,
        annotations=_VALUES,
    ),
    max_size=4,
)  # fmt: skip
_BLOCKS = _fields(
    type=st.sampled_from(("text", "image", "audio", "resource", "resource_link")), text=_WORDS, data=_WORDS,
    mimeType=_WORDS, resource=_VALUES, uri=_WORDS, name=_WORDS,
)  # fmt: skip
_RESULTS = {
    "server/discover": _fields(supportedVersions=st.just(["2026-07-28"]), capabilities=_VALUES),
    "initialize": _fields(
        protocolVersion=st.sampled_from(("2025-06-18", "2024-11-05", "1")), capabilities=_VALUES
    ),
    "tools/list": _fields(tools=_DEFINITIONS, ttlMs=_VALUES, nextCursor=_WORDS),
    "tools/call": _fields(
        content=st.lists(_BLOCKS, max_size=4), structuredContent=_VALUES, isError=st.booleans(),
        resultType=st.just("input_required"),
    ),
}  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn, method: str) -> str:
    kind = draw(st.sampled_from(("result", "result", "result", "error", "good", "value")))
    message: Any = {"jsonrpc": "2.0", "id": draw(st.just(ID) | st.just(ID) | _VALUES)}
    if kind == "result":
        message["result"] = draw(_RESULTS[method])
    elif kind == "error":
        message["error"] = draw(_fields(code=st.integers(), message=_WORDS, data=_VALUES))
    elif kind == "value":
        message = draw(_VALUES)
    body = good(method) if kind == "good" else json.dumps(message)
    before = draw(st.sampled_from(("", "", "", TOKENS[22], TOKENS[23], TOKENS[24])))
    return before + mutated(body.encode(), draw(edits(TOKENS, most=2))).decode("latin-1")


@st.composite
def _answers(draw: st.DrawFn, method: str) -> Case:
    pick = st.sampled_from
    return {
        "body": draw(bodies(method)),
        "kind": draw(pick(("application/json", "text/event-stream", "text/event-stream", "text/html", ""))),
        "framing": draw(pick(("length", "length", "chunked", "close"))),
        "status": draw(pick((200, 200, 200, 200, 202, 204, 301, 400, 401, 404, 500, 503))),
        "session": draw(pick(("", "", "s1", "s\t1", "x" * 9000))),
        "pad": draw(pick((0,) * 20 + (100_000, 9_000_000))),
        "times": draw(pick((1,) * 12 + (0, 2, 200))),
        "raw": draw(pick((False,) * 9 + (True,))),
        "end": draw(pick(("keep", "keep", "keep", "close", "close", "reset", "hang"))),
    }


@st.composite
def _cases(draw: st.DrawFn) -> Case:
    chosen = draw(st.lists(st.sampled_from(METHODS), min_size=1, max_size=2, unique=True))
    return {
        "answers": {method: draw(_answers(method)) for method in chosen},
        "arguments": draw(
            st.sampled_from(('{"text": "x"}', '{"text": "a\\r\\nb", "x": null}', "{}", '{"x": 5}'))
        ),
    }


def check(rig: Rig, case: Case) -> None:
    started = time.process_time()
    rig.run(_ask(case))
    used = time.process_time() - started
    if used > CPU_SECONDS:
        raise Failure(f"took {used:.1f} s of CPU; at most {CPU_SECONDS:g} s are allowed")


async def _ask(case: Case) -> None:
    budget = Budget(67_108_864)
    async with limited(_SECONDS), hostile_mcp(case["answers"]) as (url, hostile):
        transport = HttpTransport(url, {"X-Key": SECRET}, budget=budget)
        await use_server(transport, case["arguments"], _HANDSHAKE_SECONDS)
        _check_requests(hostile)
    if budget.used:
        raise Failure(f"{budget.used} bytes of the memory budget are still taken")


@contextlib.asynccontextmanager
async def limited(seconds: float) -> AsyncIterator[None]:
    """Checks that the block ends in time and leaves no task of the orchestrator behind."""
    before = asyncio.all_tasks()
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Failure(f"no end within {seconds:g} s") from None
    await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() - before if "orchestrator" in str(task.get_coro())]
    if left:
        raise Failure(f"tasks are left: {left}")


async def use_server(transport: HttpTransport | StdioTransport, arguments: str, seconds: float) -> None:
    """Lists the tools of a server and calls some of them, as a request does.

    Args:
        seconds: how long each attempt to find a version may take.
    """
    found: list[RemoteTool] = []

    def take(_: str, tools: Sequence[RemoteTool]) -> None:
        found[:] = tools

    usual, session.HANDSHAKE_SECONDS = session.HANDSHAKE_SECONDS, seconds
    transport.first_seconds = seconds
    server = McpServer(
        "files", transport, allowed=None, seconds=_CALL_SECONDS, takes_images=True,
        on_tools=take, on_call=lambda *_: None,
    )  # fmt: skip
    toolbox = Toolbox([], result_limit=RESULT_BYTES)
    try:
        try:
            await server.refresh()
        except McpError as error:
            if not str(error) or SECRET in str(error):
                raise Failure(f"an error that helps nobody: {error!r}") from None
        for tool in found:
            _check_tool(tool)
        toolbox = toolbox.extended(found)
        for tool in found[:_TOOLS_CALLED]:
            await _call(toolbox, tool, arguments)
    except (Failure, TimeoutError):
        raise
    except Exception as error:
        raise Failure(f"unexpected {type(error).__name__}: {error}") from error
    finally:
        session.HANDSHAKE_SECONDS = usual
        await server.close()
        await toolbox.aclose()


def _check_tool(tool: RemoteTool) -> None:
    if not _NAME.fullmatch(tool.name):
        raise Failure(f"models do not accept the name {tool.name!r}")
    dumps([tool.spec(), tool.strict_parameters])


async def _call(toolbox: Toolbox, tool: RemoteTool, arguments: str) -> None:
    result = await toolbox.call(tool.name, arguments, request_id="r1", traceparent="00-a\r\nX: 1")
    size = len(result.content.encode())
    if size > 2 * RESULT_BYTES + 300:
        raise Failure(f"a result of {size} bytes, at a limit of {RESULT_BYTES}")
    if _BUG.match(result.content) or SECRET in result.content:
        raise Failure(f"a result that helps no model: {result.content}")
    if result.outcome not in ("ok", "error", "timeout"):
        raise Failure(f"the outcome is {result.outcome}: {result.content[:300]}")
    dumps(list(result.images))


def _check_requests(hostile: HostileMcp) -> None:
    for request in hostile.requests:
        odd = [name for name in request.headers if not _HEADERS.fullmatch(name)]
        if odd or request.path != "/mcp":
            raise Failure(f"a request to {request.path} has the headers {odd}")


TARGET = Target("mcp_servers", _cases(), check)
