"""Parses the arguments of a call as Gemma 4 writes them: `{key:<|"|>text<|"|>,list:[1,true]}`."""

from __future__ import annotations

import re
from typing import Any

_QUOTE = '<|"|>'
_KEY = re.compile(r"\s*([^\s:{}\[\],]{1,256})\s*:\s*")
_PLAIN = re.compile(r"[^,{}\[\]]*")
_MAX_DEPTH = 64
_WORDS = {"true": True, "false": False, "null": None}


class GemmaSyntaxError(ValueError):
    """The text does not have this syntax."""


def parse_object(text: str) -> dict[str, Any]:
    """Parses a whole object.

    Raises:
        GemmaSyntaxError: the text is not exactly one object.
    """
    value, end = _object(text, 0, 0)
    if text[end:].strip():
        raise GemmaSyntaxError(f"text after the object at {end}")
    return value


def _value(text: str, at: int, depth: int) -> tuple[Any, int]:
    if depth > _MAX_DEPTH:
        raise GemmaSyntaxError(f"nested more than {_MAX_DEPTH} levels deep")
    if text.startswith(_QUOTE, at):
        end = text.find(_QUOTE, at + len(_QUOTE))
        if end < 0:
            raise GemmaSyntaxError(f"the text at {at} has no end")
        return text[at + len(_QUOTE) : end], end + len(_QUOTE)
    if text.startswith("{", at):
        return _object(text, at, depth)
    if text.startswith("[", at):
        return _list(text, at, depth)
    plain = _PLAIN.match(text, at)
    assert plain is not None
    return _scalar(plain[0].strip()), plain.end()


def _object(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    if not text.startswith("{", at):
        raise GemmaSyntaxError(f"no object at {at}")
    result: dict[str, Any] = {}
    at = _skip(text, at + 1)
    while not text.startswith("}", at):
        key = _KEY.match(text, at)
        if key is None:
            raise GemmaSyntaxError(f"no key at {at}")
        result[key[1].removeprefix(_QUOTE).removesuffix(_QUOTE)], at = _value(text, key.end(), depth + 1)
        at = _separator(text, at, "}")
    return result, at + 1


def _list(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    result: list[Any] = []
    at = _skip(text, at + 1)
    while not text.startswith("]", at):
        value, at = _value(text, at, depth + 1)
        result.append(value)
        at = _separator(text, at, "]")
    return result, at + 1


def _separator(text: str, at: int, closing: str) -> int:
    at = _skip(text, at)
    if text.startswith(",", at):
        return _skip(text, at + 1)
    if text.startswith(closing, at):
        return at
    raise GemmaSyntaxError(f"neither a comma nor {closing} at {at}")


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _scalar(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return int(text) if len(text) < 40 else text
    except ValueError:
        pass
    try:
        return float(text) if len(text) < 40 else text
    except ValueError:
        return text
