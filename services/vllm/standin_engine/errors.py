"""Errors in the shapes that vLLM uses."""

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
    """An error response: its status and JSON body."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(body)
        self.status = status
        self.body = body


def error_body(message: str, kind: str, param: str | None, code: int) -> dict[str, Any]:
    """Builds the body of an error response, or of an error event in a stream."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def status_error(status: int, message: str) -> ApiError:
    """Builds an error of any status, with the type that vLLM uses: its class, or the status phrase."""
    kind = _TYPES.get(status) or HTTPStatus(status).phrase
    return ApiError(status, error_body(message, kind, None, status))


def bad_request(message: str, param: str | None = None, value: object = None) -> ApiError:
    """Builds the 400 for a well-formed request that asks for something impossible."""
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
    """Builds the 400 for fields of the wrong type, each described by `problem`."""
    head = "1 validation error" if len(problems) == 1 else f"{len(problems)} validation errors"
    lines = "".join(f"\n  {problem}" for problem in problems)
    return ApiError(400, error_body(f"{head}:{lines}", "Bad Request", str(problems[0]["loc"]), 400))


def problem(kind: str, loc: str, message: str, found: object, **context: str) -> dict[str, Any]:
    """Describes one problem in pydantic's words, as vLLM prints it."""
    if isinstance(found, dict | list):
        found = f"<{type(found).__name__} of {len(found)} items>"
    described = {"type": kind, "loc": loc, "msg": message, "input": str(found)}
    return described | ({"ctx": context} if context else {})
