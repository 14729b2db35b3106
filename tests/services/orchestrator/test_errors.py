"""Every error that ends a request has OpenAI's format and its own status and code."""

from __future__ import annotations

import pytest

from orchestrator import errors
from orchestrator.errors import (
    ApiError,
    CallerError,
    EngineRejected,
    RateLimited,
    ServiceError,
    SettingsError,
)


def kinds(root: type[ApiError]) -> list[type[ApiError]]:
    return [kind for child in root.__subclasses__() for kind in (child, *kinds(child))]


OF_THEIR_OWN = (EngineRejected, RateLimited)  # their arguments differ


@pytest.mark.parametrize("kind", [kind for kind in kinds(ApiError) if kind not in OF_THEIR_OWN])
def test_body_has_openais_format(kind: type[ApiError]) -> None:
    error = kind("what is wrong", param="model")
    assert error.body() == {
        "error": {"message": "what is wrong", "type": kind.type, "param": "model", "code": kind.code}
    }
    assert kind.__name__ in (errors.__doc__ or ""), "missing from the tree at the top of the file"


def test_type_of_a_reached_limit_is_what_is_limited() -> None:
    error = RateLimited("too many", kind="tokens", headers={"retry-after": "1"})
    assert error.body()["error"] == {
        "message": "too many", "type": "tokens", "param": None, "code": "rate_limit_exceeded"
    }  # fmt: skip
    assert (error.status, error.headers) == (429, {"retry-after": "1"})


@pytest.mark.parametrize("kind", kinds(ApiError))
def test_status_shows_who_caused_the_error(kind: type[ApiError]) -> None:
    family = 400 if issubclass(kind, CallerError) else 500
    assert issubclass(kind, CallerError | ServiceError)
    assert family <= kind.status < family + 100


def test_one_error_can_have_its_own_status_code_and_headers() -> None:
    error = CallerError("gone", status=410, code="gone", headers={"allow": "POST"})
    assert (error.status, error.code, error.headers) == (410, "gone", {"allow": "POST"})
    assert (CallerError.status, CallerError.code) == (400, "invalid_request")


def test_error_object_of_the_engine_is_passed_on_with_openais_types() -> None:
    reported = {"message": "too long", "type": "BadRequestError", "param": None, "code": 400, "more": [1]}
    error = EngineRejected(400, reported)
    assert (error.status, error.message) == (400, "too long")
    assert error.body() == {"error": {**reported, "code": "400"}}


@pytest.mark.parametrize("code", [None, "context_length_exceeded", 400, 4.5, ["x"], {"a": 1}])
@pytest.mark.parametrize("field", ["message", "type", "param", "code"])
def test_every_field_of_an_engines_error_is_text_or_null(field: str, code: object) -> None:
    shown = EngineRejected(400, {field: code}).body()["error"][field]
    assert shown is None if code is None else isinstance(shown, str)


def test_settings_error_names_the_variable_and_shows_its_value_and_what_is_allowed() -> None:
    assert str(SettingsError("PORT", "x", "must be a number")) == (
        "PORT='x' cannot be used: must be a number"
    )
