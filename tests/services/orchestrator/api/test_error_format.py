"""Errors in OpenAI's format."""

from __future__ import annotations

from orchestrator.api.error_format import OPENAI_ERRORS
from orchestrator.errors import NotFound
from tests.support.live import events_of
from tests.support.openai_types import check


def test_body_and_last_event_are_the_same_error() -> None:
    error = NotFound("There is no x", param="x")
    [last] = events_of(OPENAI_ERRORS.last_events(error, "r").decode())
    assert isinstance(last, dict)
    assert check(last) == "error"
    assert OPENAI_ERRORS.body(error, "r") in OPENAI_ERRORS.last_events(error, "r")
    assert last["error"]["param"] == "x"
