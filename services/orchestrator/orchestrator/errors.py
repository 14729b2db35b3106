"""The exception tree: errors of the caller are separate from errors of the service.

TandemError
├── SettingsError           a setting cannot be used: the service does not start
├── ToolError               a tool cannot do its job: the message goes back to the model
└── ApiError                ends a request with an error in OpenAI's format
    ├── CallerError         4xx: the caller can fix it
    │   ├── InvalidRequest      400, 405, 408, 413, 422
    │   ├── InvalidKey          401
    │   ├── NotFound            404
    │   ├── NotPermitted        403
    │   ├── ServerUnavailable   424: an MCP server that the request names does not answer
    │   ├── Overloaded          429
    │   │   ├── ModelBusy           the model's requests already use their share of the server
    │   │   └── RateLimited         a limit of the key
    │   └── EngineRejected      4xx from the engine, passed on
    └── ServiceError        5xx: the service or the engine failed
        ├── EngineUnavailable   503: no engine answers
        │   └── EngineStarting      one is being started, and this request does not wait for it
        ├── EngineFailed        502: an engine failed or sent an unreadable answer
        │   └── EngineBroke         the answer ended before it was complete
        ├── DeadlineExceeded    504
        ├── LimitsUnavailable   503
        └── ShuttingDown        503
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class TandemError(Exception):
    """Base class of every error that this service raises deliberately."""


class SettingsError(TandemError):
    """An environment variable has a value that cannot be used."""

    def __init__(self, name: str, value: str, allowed: str) -> None:
        super().__init__(f"{name}={value!r} cannot be used: {allowed}")
        self.name = name
        self.value = value
        self.allowed = allowed


class ToolError(TandemError):
    """A tool cannot do what the model asked. The message is written for the model."""


class ApiError(TandemError):
    """Ends a request with `status` and a body in OpenAI's error format."""

    status = 500
    type = "server_error"
    code: str | None = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else type(self).code
        self.status = status if status is not None else type(self).status
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """`{"error": {"message", "type", "param", "code"}}`."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class CallerError(ApiError):
    status = 400
    type = "invalid_request_error"
    code: str | None = "invalid_request"


class InvalidRequest(CallerError):
    """The request is malformed or exceeds a limit."""


class InvalidKey(CallerError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class NotFound(CallerError):
    status = 404
    code = "not_found"


class Overloaded(CallerError):
    status = 429
    type = "rate_limit_error"
    code = "too_many_requests"


class ModelBusy(Overloaded):
    """The requests of one model leave the rest of the server to the other models."""


class RateLimited(Overloaded):
    """A key has reached one of its limits. The type is what is limited, as OpenAI has it."""

    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, kind: str, headers: Mapping[str, str]) -> None:
        super().__init__(message, headers=headers)
        self.type = kind


class NotPermitted(CallerError):
    """The key is valid, but may not do this."""

    status = 403
    type = "permission_error"
    code = "not_permitted"


class EngineRejected(CallerError):
    """The engine rejected the request. Its error object is passed on with OpenAI's types."""

    def __init__(
        self, status: int, error: Mapping[str, Any], *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(str(error.get("message", "")), status=status, headers=headers)
        texts = {key: _text(error[key]) for key in ("message", "type", "param", "code") if key in error}
        self.error = {**error, **texts}
        self.code = texts.get("code")

    def body(self) -> dict[str, Any]:
        return {"error": self.error}


class ServiceError(ApiError):
    """The request failed through no fault of the caller."""


class EngineUnavailable(ServiceError):
    status = 503
    type = "service_unavailable_error"
    code = "engine_unavailable"


class EngineStarting(EngineUnavailable):
    code = "engine_starting"


class EngineFailed(ServiceError):
    status = 502
    type = "engine_error"
    code = "engine_failed"


class EngineBroke(EngineFailed):
    """The engine's answer ended before it was complete."""


class DeadlineExceeded(ServiceError):
    status = 504
    type = "timeout_error"
    code = "deadline_exceeded"


class LimitsUnavailable(ServiceError):
    """The limits of a key cannot be checked."""

    status = 503
    type = "service_unavailable_error"
    code = "limits_unavailable"


class ShuttingDown(ServiceError):
    status = 503
    type = "service_unavailable_error"
    code = "shutting_down"


def _text(value: Any) -> str | None:
    """Returns a value as OpenAI's types have it: vLLM's codes are numbers."""
    return value if value is None or isinstance(value, str) else str(value)
