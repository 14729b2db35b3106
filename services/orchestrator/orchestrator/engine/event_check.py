"""Checks that the events of a stream are JSON, without parsing most of them."""

from __future__ import annotations

import re

import orjson

from ..protocol import payloads

_TEXT = re.compile(rb'[^"\\\x00-\x1f]*+(?:\\["\\/bfnrt][^"\\\x00-\x1f]*+)*+')
"""The inside of a JSON string without `\\u`."""

_TEXT_START = re.compile(rb'"(?:content|text|reasoning|reasoning_content|arguments)":"')


class EventCheck:
    """Checks the events of one stream.

    Most of them differ from the previous one only in one string. Such an event is not parsed, which takes
    0.5 µs instead of 2; relaying a chunk takes 1.2.
    """

    __slots__ = ("_before", "_rest", "problem")

    def __init__(self) -> None:
        self.problem = ""
        # What surrounds the string in the last event that was parsed; at first, what no event contains.
        self._before = self._rest = b"\n\n"

    def valid(self, block: bytes) -> bytes:
        """Returns the events of `block` up to the first invalid one, which `problem` then describes."""
        is_text = block.isascii() or _is_utf8(block)
        before, rest = self._before, self._rest
        start, length = len(before), len(rest)
        position = 0
        for raw in block[:-2].split(b"\n\n"):
            same = is_text and raw.startswith(before) and raw.endswith(rest)
            if not (same and _TEXT.fullmatch(raw, start, len(raw) - length)):
                self.problem = self._problem_of(raw)
                if self.problem:
                    return block[:position]
                before, rest = self._before, self._rest
                start, length = len(before), len(rest)
            position += len(raw) + 2
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
        except orjson.JSONDecodeError as error:
            return f"The engine sent invalid JSON: {error}"
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
