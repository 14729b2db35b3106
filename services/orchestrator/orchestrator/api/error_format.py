"""The format of errors, which depends on the route: whole bodies, and the last event of a broken stream."""

from __future__ import annotations

from typing import Protocol

import orjson

from ..errors import ApiError
from ..protocol import event


class ErrorFormat(Protocol):
    """Encodes errors for the clients of a route."""

    def lines(self, request_id: str) -> bytes:
        """Returns header lines of every answer on the route."""

    def body(self, error: ApiError, request_id: str) -> bytes:
        """Returns the body of an answer that is an error."""

    def last_events(self, error: ApiError, request_id: str) -> bytes:
        """Returns the events that end a stream that has started."""


class OpenAIErrors:
    """`{"error": {"message", "type", "param", "code"}}`."""

    def lines(self, request_id: str) -> bytes:  # noqa: ARG002
        return b""

    def body(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002 (it is in the header)
        return orjson.dumps(error.body())

    def last_events(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002
        return event(error.body())


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class AnthropicErrors:
    """`{"type": "error", "error": {"type", "message"}, "request_id"}`."""

    def lines(self, request_id: str) -> bytes:
        return b"request-id: %b\r\n" % request_id.encode("latin-1")

    def body(self, error: ApiError, request_id: str) -> bytes:
        kind = "api_error" if error.status >= 500 else "invalid_request_error"
        shown = {"type": _ANTHROPIC_TYPES.get(error.status, kind), "message": error.message}
        return orjson.dumps({"type": "error", "error": shown, "request_id": request_id})

    def last_events(self, error: ApiError, request_id: str) -> bytes:
        return b"event: error\ndata: " + self.body(error, request_id) + b"\n\n"


OPENAI_ERRORS = OpenAIErrors()
ANTHROPIC_ERRORS = AnthropicErrors()
