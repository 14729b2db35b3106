"""The messages of the Model Context Protocol: JSON-RPC, the fields of `_meta`, and errors."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import orjson

from ... import __version__
from ..context import ToolContext

JsonObject = dict[str, Any]

MODERN = "2026-07-28"
HANDSHAKES = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""The versions that start with `initialize`, newest first."""

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
CLIENT_KEY = "io.modelcontextprotocol/clientInfo"
CLIENT_INFO = {"name": "tandem", "version": __version__}

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
INTERNAL_ERROR, HEADER_MISMATCH, UNSUPPORTED_VERSION = -32603, -32020, -32022

_MESSAGE_CHARACTERS = 500
_SAFE_HEADER = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


class McpError(Exception):
    """A server could not be used. The message says why, and never contains a header's value."""


class Unreachable(McpError):
    """No connection could be opened, so the server has not seen the request."""


class SessionLost(McpError):
    """The server does not know the session any longer."""


class Rejected(McpError):
    """The server answered with an error.

    Attributes:
        code: the JSON-RPC code, or the HTTP status if the answer has none.
    """

    def __init__(self, message: str, code: int, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


def request(number: int, method: str, params: JsonObject) -> JsonObject:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def notification(method: str, params: JsonObject) -> JsonObject:
    return {"jsonrpc": "2.0", "method": method, "params": params}


def modern_meta() -> JsonObject:
    """Returns what every request of the stateless protocol carries."""
    return {VERSION_KEY: MODERN, CAPABILITIES_KEY: {}, CLIENT_KEY: CLIENT_INFO}


def trace_meta(context: ToolContext | None) -> dict[str, str]:
    """Returns the trace context of the client's request and its id."""
    if context is None:
        return {}
    fields = {"x-request-id": context.request_id}
    if context.traceparent:
        fields["traceparent"] = context.traceparent
    if context.tracestate:
        fields["tracestate"] = context.tracestate
    return fields


def trace_headers(trace: Mapping[str, str]) -> dict[str, str]:
    """Returns what `trace_meta` has returned as headers, without values that a header cannot have."""
    return {name: value for name, value in trace.items() if _SAFE_HEADER.fullmatch(value)}


def header_value(value: str) -> str:
    """Returns a text as the value of a header, in the protocol's base64 form if it has other characters."""
    if _SAFE_HEADER.fullmatch(value) and not value.startswith("=?base64?"):
        return value
    return f"=?base64?{base64.b64encode(value.encode(errors='replace')).decode()}?="


def header_text(value: str) -> str | None:
    """Returns the text that `header_value` has written, None if it is not one."""
    if not value.startswith("=?base64?") or not value.endswith("?="):
        return value
    try:
        return base64.b64decode(value[9:-2], validate=True).decode()
    except ValueError:
        return None


def parse(data: bytes) -> JsonObject:
    """Parses one message.

    Raises:
        McpError: it is not a JSON object.
    """
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise McpError(f"the server sent something that is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise McpError("the server sent a JSON value that is not an object, so it is not a message of MCP")
    return message


def is_answer(message: JsonObject, number: int) -> bool:
    """Returns whether a message answers the request; some servers send `id: null` with an error."""
    if "result" not in message and "error" not in message:
        return False
    answered = message.get("id")
    return answered == number or answered == str(number) or (answered is None and "error" in message)


def result_of(message: JsonObject) -> JsonObject:
    """Returns the result in an answer.

    Raises:
        Rejected: the answer is an error. McpError: it is neither.
    """
    error = message.get("error")
    if error is not None:
        fields = error if isinstance(error, dict) else {}
        code, text = fields.get("code"), fields.get("message")
        shown = text if isinstance(text, str) and text else "the server reported an error without a message"
        raise Rejected(shown[:_MESSAGE_CHARACTERS], code if isinstance(code, int) else 0, fields.get("data"))
    result = message.get("result")
    if not isinstance(result, dict):
        raise McpError("the server's answer has a result that is not an object")
    return result
