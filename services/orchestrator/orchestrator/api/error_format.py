"""The format of errors, which depends on the route: whole bodies, and the last event of a broken stream."""

from __future__ import annotations

from typing import Protocol

import orjson

from ..errors import ApiError
from ..protocol import event


class ErrorFormat(Protocol):
    """Encodes errors for the clients of a route."""

    def body(self, error: ApiError, request_id: str) -> bytes:
        """Returns the body of an answer that is an error."""

    def last_events(self, error: ApiError, request_id: str) -> bytes:
        """Returns the events that end a stream that has started."""


class OpenAIErrors:
    """`{"error": {"message", "type", "param", "code"}}`."""

    def body(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002 (it is in the header)
        return orjson.dumps(error.body())

    def last_events(self, error: ApiError, request_id: str) -> bytes:  # noqa: ARG002
        return event(error.body())


OPENAI_ERRORS = OpenAIErrors()
