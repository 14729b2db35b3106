"""POST /mcp: the server's tools for any client of the Model Context Protocol, without sessions.

It speaks the newest version, in which each request stands alone, and the handshake of older ones, whose
`Mcp-Session-Id` is optional. Every answer is JSON: the tools here are too quick for streams.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson

from .. import __version__
from ..errors import ApiError
from ..protocol import JsonObject, dumps
from ..telemetry import Telemetry
from ..tools.mcp.wire import (
    CAPABILITIES_KEY,
    HANDSHAKES,
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MODERN,
    PARSE_ERROR,
    UNSUPPORTED_VERSION,
    VERSION_KEY,
    header_text,
)
from ..tools.toolbox import Toolbox, ToolResult
from .reply import Reply
from .request import Request

_INFO = {"name": "tandem", "version": __version__}
_SERVER_KEY = "io.modelcontextprotocol/serverInfo"
_CAPABILITIES = {"tools": {"listChanged": False}}
_LIST_MS = 60_000
_STATUSES = {
    PARSE_ERROR: 400, INVALID_REQUEST: 400, INVALID_PARAMS: 400, HEADER_MISMATCH: 400,
    UNSUPPORTED_VERSION: 400, METHOD_NOT_FOUND: 404,
}  # fmt: skip
"""The HTTP statuses that the newest version asks for. Older ones have 200 for every answered request."""


class McpFailure(Exception):
    """A request is answered with a JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class McpErrors:
    """The format of errors that concern the whole request: JSON-RPC without an id."""

    def lines(self, request_id: str) -> bytes:  # noqa: ARG002
        return b""

    def body(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002 (it is in the header)
        code = PARSE_ERROR if error.code == "invalid_json" else INVALID_REQUEST
        code = INTERNAL_ERROR if error.status >= 500 else code
        shown = {"code": code, "message": error.message, "data": {"type": error.type, "code": error.code}}
        return orjson.dumps({"jsonrpc": "2.0", "id": None, "error": shown})

    def last_events(self, error: ApiError, request_id: str) -> bytes:
        return b"event: message\ndata: " + self.body(error, request_id) + b"\n\n"


MCP_ERRORS = McpErrors()


class McpRoute:
    """Handles the route.

    Args:
        all_tools: whether the tools of other MCP servers are served too.
        origins: origins of web pages that may use the API. Pages of other origins are rejected, since a page
            could otherwise reach a server in its visitor's network.
    """

    def __init__(
        self, toolbox: Toolbox, telemetry: Telemetry, *, all_tools: bool, origins: Sequence[str]
    ) -> None:
        self._toolbox = toolbox
        self._telemetry = telemetry
        self._all_tools = all_tools
        self._origins = {origin.encode() for origin in origins}
        self._methods: dict[str, Callable[[JsonObject, Request], Awaitable[JsonObject]]] = {
            "server/discover": self._discover,
            "initialize": self._initialize,
            "ping": self._ping,
            "tools/list": self._list,
            "tools/call": self._call,
        }

    async def __call__(self, request: Request, reply: Reply) -> None:
        if not self._accepts_origin(request.headers):
            self._fail(reply, McpFailure(INVALID_REQUEST, "pages of this origin may not use MCP"), 403)
            return
        try:
            message = _parse(request.body)
        except McpFailure as failure:
            self._fail(reply, failure, 400)
            return
        request.body = b""
        if "id" not in message or "method" not in message:
            reply.whole(202, b"")  # a notification, or an answer to a request that was never made
            return
        modern = _is_modern(message, request.headers)
        try:
            if modern:
                _check_envelope(message, request.headers)
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": await self._answer(message, request)}
        except McpFailure as failure:
            status = _STATUSES.get(failure.code, 200) if modern else 200
            self._fail(reply, failure, status, message["id"])
            return
        if modern:
            answer["result"] |= {"resultType": "complete", "_meta": {_SERVER_KEY: _INFO}}
        reply.whole(200, dumps(answer))

    async def _answer(self, message: JsonObject, request: Request) -> JsonObject:
        method, params = message["method"], message.get("params")
        handler = self._methods.get(method) if isinstance(method, str) else None
        if handler is None:
            raise McpFailure(METHOD_NOT_FOUND, f"the method {str(method)[:80]!r} is not supported")
        if params is not None and not isinstance(params, dict):
            raise McpFailure(INVALID_PARAMS, "params must be an object")
        return await handler(params or {}, request)

    async def _discover(self, params: JsonObject, request: Request) -> JsonObject:  # noqa: ARG002
        return {
            "supportedVersions": [MODERN, *HANDSHAKES],
            "capabilities": _CAPABILITIES,
            "ttlMs": _LIST_MS,
            "cacheScope": "private",
        }

    async def _initialize(self, params: JsonObject, request: Request) -> JsonObject:  # noqa: ARG002
        asked = params.get("protocolVersion")
        version = asked if asked in HANDSHAKES else HANDSHAKES[0]
        return {"protocolVersion": version, "capabilities": _CAPABILITIES, "serverInfo": _INFO}

    async def _ping(self, params: JsonObject, request: Request) -> JsonObject:  # noqa: ARG002
        return {}

    async def _list(self, params: JsonObject, request: Request) -> JsonObject:  # noqa: ARG002 (all on a page)
        tools = [
            {
                "name": spec["function"]["name"],
                "description": spec["function"]["description"],
                "inputSchema": spec["function"]["parameters"],
            }
            for spec in self._toolbox.specs()
            if self._serves(spec["function"]["name"], request)
        ]
        return {"tools": tools, "ttlMs": _LIST_MS, "cacheScope": "private"}

    async def _call(self, params: JsonObject, request: Request) -> JsonObject:
        name, arguments = params.get("name"), params.get("arguments")
        if not isinstance(name, str) or not self._serves(name, request):
            raise McpFailure(INVALID_PARAMS, f"Unknown tool: {str(name)[:80]}")
        if arguments is not None and not isinstance(arguments, dict):
            raise McpFailure(INVALID_PARAMS, "arguments must be an object")
        meta = params.get("_meta")
        trace = meta if isinstance(meta, dict) else {}
        request.record.adopt(
            _trace(trace, request.headers, "traceparent"), _trace(trace, request.headers, "tracestate")
        )
        result = await request.record.run_tool(self._toolbox, name, dumps(arguments or {}).decode())
        request.record.tools.append(name)
        self._telemetry.tool_called(name, result.outcome, result.seconds)
        return _content(result)

    def _serves(self, name: str, request: Request) -> bool:
        permitted = request.record.permitted_tools
        if permitted is not None and name not in permitted:
            return False
        return name in self._toolbox and (self._all_tools or self._toolbox.remote(name) is None)

    def _accepts_origin(self, headers: Mapping[bytes, bytes]) -> bool:
        origin = headers.get(b"origin")
        if origin is None or origin in self._origins or b"*" in self._origins:
            return True
        return origin.partition(b"://")[2] == headers.get(b"host")

    def _fail(self, reply: Reply, failure: McpFailure, status: int, number: Any = None) -> None:
        error = {"code": failure.code, "message": str(failure)}
        if failure.data is not None:
            error["data"] = failure.data
        reply.whole(status, dumps({"jsonrpc": "2.0", "id": number, "error": error}))


def _parse(body: bytes) -> JsonObject:
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise McpFailure(PARSE_ERROR, f"the body is not JSON: {error}") from None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise McpFailure(INVALID_REQUEST, "the body must be a single JSON-RPC message")
    if not isinstance(message.get("id", 0), str | int):
        raise McpFailure(INVALID_REQUEST, "id must be a text or an integer")
    return message


def _envelope(message: JsonObject) -> JsonObject:
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta if isinstance(meta, dict) else {}


def _is_modern(message: JsonObject, headers: Mapping[bytes, bytes]) -> bool:
    """Returns whether a request stands alone. Those of older versions have neither field."""
    version = headers.get(b"mcp-protocol-version", b"").decode("latin-1")
    return VERSION_KEY in _envelope(message) or (bool(version) and version not in HANDSHAKES)


def _check_envelope(message: JsonObject, headers: Mapping[bytes, bytes]) -> None:
    """Checks what every request of the newest version carries, in the order of the official SDKs."""
    meta, method = _envelope(message), message["method"]
    if missing := [key for key in (VERSION_KEY, CAPABILITIES_KEY) if key not in meta]:
        raise McpFailure(INVALID_PARAMS, f"params._meta lacks {', '.join(missing)}")
    version = meta[VERSION_KEY]
    if headers.get(b"mcp-protocol-version", b"").decode("latin-1") != version:
        raise McpFailure(HEADER_MISMATCH, "the header MCP-Protocol-Version differs from params._meta")
    if headers.get(b"mcp-method", b"").decode("latin-1") != method:
        raise McpFailure(HEADER_MISMATCH, "the header Mcp-Method differs from the method")
    if method == "tools/call":
        named = message["params"].get("name")
        if named is not None and header_text(headers.get(b"mcp-name", b"").decode("latin-1")) != named:
            raise McpFailure(HEADER_MISMATCH, "the header Mcp-Name differs from the tool's name")
    if version != MODERN:
        data = {"supported": [MODERN, *HANDSHAKES], "requested": version}
        raise McpFailure(UNSUPPORTED_VERSION, "Unsupported protocol version", data)


def _trace(meta: JsonObject, headers: Mapping[bytes, bytes], name: str) -> str:
    value = meta.get(name)
    return value if isinstance(value, str) else headers.get(name.encode(), b"").decode("latin-1")


def _content(result: ToolResult) -> JsonObject:
    content: list[JsonObject] = [{"type": "text", "text": result.content}]
    for image in result.images:
        kind, _, data = image["image_url"]["url"].removeprefix("data:").partition(";base64,")
        content.append({"type": "image", "mimeType": kind, "data": data})
    answer: JsonObject = {"content": content, "isError": result.outcome != "ok"}
    if result.outcome == "ok" and result.content.startswith("{"):
        try:
            answer["structuredContent"] = orjson.loads(result.content)
        except orjson.JSONDecodeError:
            return answer  # a text that only starts like JSON, or was cut
    return answer
