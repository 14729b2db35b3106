"""Finds where a JSON value ends in text that arrives in parts."""

from __future__ import annotations

import re

_MAX_DEPTH = 128
_OUTSIDE = re.compile(r"[\s\w:,.+-]*")
_INSIDE = re.compile(r'[^"\\]*')


class JsonEnd:
    """Finds the end of a JSON value in text that arrives in parts."""

    def __init__(self) -> None:
        self.ended = False
        self.broken = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, text: str, at: int) -> int:
        """Reads from `at` and returns where the value ends or is invalid, or the end of the text."""
        while at < len(text):
            if self._in_string:
                at = self._string(text, at)
                continue
            match = _OUTSIDE.match(text, at)
            at = match.end() if match else at
            if at == len(text):
                break
            character = text[at]
            if character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
                self.broken = self._depth > _MAX_DEPTH
            elif character in "}]":
                self._depth -= 1
                self.ended = self._depth == 0
            else:
                self.broken = True
            if self.broken:
                return at
            at += 1
            if self.ended:
                return at
        return at

    def _string(self, text: str, at: int) -> int:
        if self._escaped:
            self._escaped = False
            return at + 1
        match = _INSIDE.match(text, at)
        at = match.end() if match else at
        if at == len(text):
            return at
        self._escaped = text[at] == "\\"
        self._in_string = self._escaped
        return at + 1
