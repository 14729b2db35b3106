"""Parses the arguments that a model wrote for a call, which may be malformed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic_core import from_json

_MAX_CHARACTERS = 262_144
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


class MalformedArguments(ValueError):
    """The text is not a JSON object. The message says what it is instead."""


def parse_arguments(arguments: str | None) -> tuple[dict[str, Any], str]:
    """Returns the object in `arguments` and its canonical text (sorted keys, no spaces).

    Missing, empty, blank and `null` arguments become `{}`. A JSON string that contains JSON is unwrapped.
    Integers of any size stay exact.

    Raises:
        MalformedArguments: the text is too long, not JSON or not an object, or contains a number too large
            for JSON.
    """
    if arguments is not None and len(arguments) > _MAX_CHARACTERS:
        raise MalformedArguments(
            f"the arguments have {len(arguments):,} characters; at most {_MAX_CHARACTERS:,} are accepted"
        )
    value: Any = arguments
    while isinstance(value, str):
        value = _parse_json(value) if value.strip() else None
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise MalformedArguments(f"the arguments are {_KINDS[type(value)]}, not a JSON object")
    try:
        return value, _canonical(value)
    except ValueError as error:
        raise MalformedArguments("the arguments contain a number that is too large for JSON") from error


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a call, parsed once.

    Attributes:
        value: the object, None if the text is malformed.
        canonical: the same text for all spellings of the same object; malformed text is unchanged.
        problem: why the text is malformed.
    """

    value: dict[str, Any] | None
    canonical: str
    problem: str = ""

    @classmethod
    def of(cls, text: str | None) -> Arguments:
        try:
            return cls(*parse_arguments(text))
        except MalformedArguments as error:
            return cls(None, text or "", str(error))


def _canonical(value: dict[str, Any]) -> str:
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # an integer above 64 bits
        return _encode(value)
    # orjson writes infinity as null, but it must be rejected. This takes a tenth of the other encoder's time.
    return _encode(value) if b"null" in text else text.decode()


def _parse_json(text: str) -> Any:
    try:
        return from_json(text, allow_inf_nan=False, cache_strings="none")
    except (ValueError, TypeError) as error:  # TypeError: a lone surrogate
        raise MalformedArguments(f"the arguments are not valid JSON: {error}") from error


_KINDS = {list: "an array", bool: "a boolean", int: "a number", float: "a number"}
