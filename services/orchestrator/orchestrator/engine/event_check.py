"""Checks that the events of a stream are JSON, without parsing most of them."""

from __future__ import annotations

import re

import orjson

from ..protocol import payloads

_TEXT = re.compile(rb'[^"\\\x00-\x1f]*+(?:\\["\\/bfnrt][^"\\\x00-\x1f]*+)*+')
"""The inside of a JSON string without `\\u`."""

_NOTHING = b"\n\n"
_TEXT_START = re.compile(rb'"(?:content|text|reasoning|reasoning_content|arguments)":"')


class EventCheck:
    """Checks the events of one stream.

    Most of them differ from the previous one only in one string. Such events are not parsed, which takes
    0.5 µs instead of 2; relaying a chunk takes 1.2.
    """

    __slots__ = ("_before", "_rest", "problem")

    def __init__(self) -> None:
        self.problem = ""
        # What surrounds the string in the last event that was parsed; at first, what no event contains.
        self._before = self._rest = _NOTHING

    def is_similar(self, block: bytes) -> bool:
        """Returns whether `block` is one event, and valid since it differs from a valid one in a string."""
        before, rest = self._before, self._rest
        return (
            before is not _NOTHING
            and block.startswith(before)
            and block.endswith(rest, 0, -2)
            and _TEXT.fullmatch(block, len(before), len(block) - len(rest) - 2) is not None
            and (block.isascii() or _is_utf8(block))
        )

    def valid(self, block: bytes) -> bytes:
        """Returns the events of `block` up to the first invalid one, which `problem` then describes."""
        readable = block.isascii() or _is_utf8(block)
        match = _TEXT.fullmatch
        before, rest = (self._before, self._rest) if readable else (_NOTHING, _NOTHING)
        start, length = len(before), len(rest)
        raws = block[:-2].split(b"\n\n")
        for number, raw in enumerate(raws):
            if raw.startswith(before) and raw.endswith(rest) and match(raw, start, len(raw) - length):
                continue
            self.problem = self._problem_of(raw)
            if self.problem:
                return b"".join([valid + b"\n\n" for valid in raws[:number]])
            if readable:
                before, rest = self._before, self._rest
                start, length = len(before), len(rest)
        return block

    def _problem_of(self, raw: bytes) -> str:
        try:
            payload = next(payloads(raw), None)
        except ValueError as error:
            return f"The engine's stream cannot be read: {error}"
        if payload is None:
            return ""
        try:
            value = orjson.loads(payload)
        except orjson.JSONDecodeError as invalid:
            return f"The engine sent invalid JSON: {invalid}"
        if not isinstance(value, dict):
            return "The engine sent JSON that is not an object"
        found = _TEXT_START.search(raw)
        if found and b"\n" not in raw:
            end = _TEXT.match(raw, found.end())
            assert end  # it also matches nothing
            self._before, self._rest = raw[: found.end()], raw[end.end() :]
        return ""


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
