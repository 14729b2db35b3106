"""Errors in the shapes that vLLM gives them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

_TYPES = {
    400: "BadRequestError",
    404: "NotFoundError",
    422: "UnprocessableEntityError",
    500: "InternalServerError",
    501: "NotImplementedError",
}


class ApiError(Exception):
    """A request that is answered with an error: its status and JSON body."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(body)
        self.status = status
        self.body = body


def error_body(message: str, kind: str, param: str | None, code: int) -> dict[str, Any]:
    """The body of an error, also of an error event within a stream."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def status_error(status: int, message: str) -> ApiError:
    """An error of any status, with vLLM's type for it: its class, or else the phrase of the status."""
    kind = _TYPES.get(status) or HTTPStatus(status).phrase
    return ApiError(status, error_body(message, kind, None, status))


def bad_request(message: str, param: str | None = None, value: object = None) -> ApiError:
    """A request that is well formed and means something that cannot be."""
    extras = [f"parameter={param}"] if param else []
    extras += [f"value={value}"] if value is not None else []
    return ApiError(
        400,
        error_body(f"{message} ({', '.join(extras)})" if extras else message, "BadRequestError", param, 400),
    )


def not_found(message: str, param: str) -> ApiError:
    return ApiError(404, error_body(message, "NotFoundError", param, 404))


def queue_full() -> ApiError:
    return status_error(
        503,
        "The engine is currently busy and cannot accept new requests. "
        "Please try again later or on a different instance.",
    )


def unsupported_media_type() -> ApiError:
    message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
    return ApiError(400, error_body(message, "Bad Request", None, 400))


def invalid(*problems: dict[str, Any]) -> ApiError:
    """Fields of the wrong type, each as `problem` describes it."""
    head = "1 validation error" if len(problems) == 1 else f"{len(problems)} validation errors"
    lines = "".join(f"\n  {problem}" for problem in problems)
    return ApiError(400, error_body(f"{head}:{lines}", "Bad Request", str(problems[0]["loc"]), 400))


def problem(kind: str, loc: str, message: str, found: object, **context: str) -> dict[str, Any]:
    """One problem in the words of pydantic, as vLLM prints it."""
    if isinstance(found, dict | list):
        found = f"<{type(found).__name__} of {len(found)} items>"
    described = {"type": kind, "loc": loc, "msg": message, "input": str(found)}
    return described | ({"ctx": context} if context else {})
