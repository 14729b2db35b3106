"""Faults on request, for tests: the field `standin` in a request body makes the stand-in misbehave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

from .errors import bad_request


@dataclass(frozen=True, slots=True)
class Fault:
    """A way for a turn to go wrong. Every field is a key of `standin`."""

    when: Literal["call", "answer", "always"] = "always"
    """The turns that the fault applies to: those that call tools, those that answer in text, or all."""
    delay_first: float = 0.0
    """Seconds before the first token."""
    delay_token: float = 0.0
    """Seconds between tokens."""
    status: int | None = None
    """Answer with an error of this status."""
    cut_after: int | None = None
    """Close the connection after this many stream events, or within the body; 0 closes it before any byte."""
    error_event_after: int | None = None
    """Send vLLM's error event after this many stream events; without a stream, answer with status 500."""
    chunks: int | None = None
    """Answer with a text of this many tokens, even if it exceeds the model's length."""
    malformed_arguments: bool = False
    """Write call arguments that are not JSON."""
    missing_arguments: bool = False
    """Omit the arguments of calls."""
    double_encoded_arguments: bool = False
    """Write call arguments as a JSON string that contains JSON."""
    empty_tool_calls: bool = False
    """Send the finish_reason of calls without any calls."""
    call_as_text: bool | Literal["bare"] = False
    """Write calls as text: <tool_call>...</tool_call>, or `bare` as {"tool": ..., "arguments": ...}."""

    def applies(self, *, calls: bool) -> bool:
        return self.when == "always" or (self.when == "call") == calls


NO_FAULT = Fault()


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 3600


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10_000_000


def _status(value: Any) -> bool:
    return type(value) is int and value in (
        400,
        401,
        403,
        404,
        408,
        409,
        413,
        422,
        429,
        500,
        501,
        502,
        503,
        504,
    )


def _switch(value: Any) -> bool:
    return isinstance(value, bool)


_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "when": (lambda value: value in ("call", "answer", "always"), "'call', 'answer' or 'always'"),
    "delay_first": (_seconds, "a number of seconds from 0 to 3600"),
    "delay_token": (_seconds, "a number of seconds from 0 to 3600"),
    "status": (_status, "an error status, e.g. 500 or 503"),
    "cut_after": (_count, "a whole number of at least 0"),
    "error_event_after": (_count, "a whole number of at least 0"),
    "chunks": (lambda value: _count(value) and value <= 200_000, "a whole number from 0 to 200000"),
    "call_as_text": (lambda value: isinstance(value, bool) or value == "bare", "true, false or 'bare'"),
}


def parse_fault(value: Any) -> Fault:
    """Checks the field `standin`.

    Raises:
        ApiError: Status 400. The message names the key, its value and what is allowed.
    """
    if value is None:
        return NO_FAULT
    if not isinstance(value, dict):
        raise bad_request("`standin` must be an object.", "standin", value)
    known = [field.name for field in fields(Fault)]
    for key, setting in value.items():
        if key not in known:
            raise bad_request(f"`standin` has no key {key!r}; valid keys: {', '.join(known)}.", "standin")
        allowed, words = _ALLOWED.get(key, (_switch, "true or false"))
        if not allowed(setting):
            raise bad_request(f"`standin.{key}` must be {words}.", f"standin.{key}", setting)
    return Fault(**value)
