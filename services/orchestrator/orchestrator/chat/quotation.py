"""Determines whether a text ends inside code, a block quote, a list, quotation marks or an element.

If in doubt, it does: the result decides whether a call that a model wrote as text may be run. Each character
is read once, however the text is split into parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARKER = re.compile(r"[ \t]*(?:>|(?:[-*+]|\d{1,9}[.)])(?=[ \t]|$))[ \t]?")
_FENCE = re.compile(r"[ \t]*(?P<run>`{3,}|~{3,})(?P<info>.*)")
_TICKS = re.compile(r"`+")
_ELEMENT = re.compile(r"<(?P<close>/?)(?P<name>[A-Za-z][\w:-]{0,40})(?:\s[^<>]*)?>|<!--|-->")
_PAIRS = {"“": "”", "«": "»", "「": "」", "『": "』", "„": "“"}
_MARKS = re.compile('["“”«»「」『』„]')
# Elements without an end tag, and those that do not quote anything.
_OPEN_ELEMENTS = frozenset({"br", "hr", "img", "input", "meta", "link", "p", "li", "td", "tr", "th", "wbr"})
_NOTABLE = re.compile('[`"“”«»「」『』„<>]')
_MAX_LINE = 2048
_MAX_ELEMENTS = 64


@dataclass(frozen=True, slots=True)
class _Fence:
    character: str
    length: int
    depth: int  # of the surrounding block quotes
    indent: int  # of the surrounding list item


class Quotation:
    """Takes a text in parts. `quoted` is whether the current end of the text is quoted."""

    def __init__(self) -> None:
        self._line: list[str] = []
        self._line_length = 0
        self._fence: _Fence | None = None
        self._block = False  # the previous line belongs to a block quote or list
        self._item = False  # in a list, to which indented lines after a blank line still belong
        self._ticks = 0
        self._marks = 0
        self._straight = False
        self._elements: dict[str, int] = {}
        self._lost = False  # a line was too long to be analyzed

    def feed(self, text: str) -> None:
        first, *others = text.split("\n")
        self._add(first)
        for part in others:
            self._end_line()
            self._add(part)

    @property
    def quoted(self) -> bool:
        line = "".join(self._line)
        probe = Quotation()
        probe._copy(self)
        probe._read_line(line, whole=False)
        return probe._inside(line)

    def _inside(self, line: str) -> bool:
        return bool(
            self._lost
            or self._fence
            or self._block
            or (self._item and line.startswith((" ", "\t")))
            or self._ticks
            or self._straight
            or self._marks > 0
            or line.startswith(("    ", "\t"))
            or any(count > 0 for count in self._elements.values())
        )

    def _copy(self, other: Quotation) -> None:
        self._fence, self._block, self._item = other._fence, other._block, other._item
        self._ticks, self._marks, self._straight = other._ticks, other._marks, other._straight
        self._elements, self._lost = dict(other._elements), other._lost

    def _add(self, part: str) -> None:
        kept = part[: max(0, _MAX_LINE - self._line_length)]
        if kept:
            self._line.append(kept)
        self._line_length += len(part)
        if len(part) > len(kept) and not self._lost:
            self._lost = _NOTABLE.search(part, len(kept)) is not None

    def _end_line(self) -> None:
        self._read_line("".join(self._line), whole=True)
        self._line.clear()
        self._line_length = 0

    def _read_line(self, line: str, *, whole: bool) -> None:
        content, depth, indent, is_item = _without_markers(line)
        if self._fence and self._stays_in_fence(line, depth):
            if whole and self._closes_fence(line):
                self._fence = None
            return
        self._fence = None
        if not line.strip():
            if whole:
                self._block = False
                self._ticks = 0
            return
        if depth or is_item or (self._item and line[0] in " \t"):
            self._block = True
        elif not self._block:
            self._item = False
        self._item = self._item or is_item
        opened = _FENCE.fullmatch(content)
        if opened and not (opened["run"][0] == "`" and "`" in opened["info"]):
            self._fence = _Fence(opened["run"][0], len(opened["run"]), depth, indent)
            self._ticks = 0
            return
        self._read_inline(content)

    def _stays_in_fence(self, line: str, depth: int) -> bool:
        """Returns whether a line is still inside the block quote or list item around the fence."""
        fence = self._fence
        assert fence is not None
        if fence.depth > depth:
            return False
        return not fence.indent or not line.strip() or len(line) - len(line.lstrip()) >= fence.indent

    def _closes_fence(self, line: str) -> bool:
        fence = self._fence
        assert fence is not None
        for _ in range(fence.depth):
            line = line.partition(">")[2]
        closing = _FENCE.fullmatch(line)
        return bool(
            closing
            and not closing["info"].strip()
            and closing["run"][0] == fence.character
            and len(closing["run"]) >= fence.length
            and closing.start("run") <= fence.indent + 3
        )

    def _read_inline(self, content: str) -> None:
        for run in _TICKS.findall(content):
            if not self._ticks:
                self._ticks = len(run)
            elif self._ticks == len(run):
                self._ticks = 0
        for mark in _MARKS.findall(content):
            if mark == '"':
                self._straight = not self._straight
            elif mark in _PAIRS and not (mark == "“" and self._marks and "„" in content):
                self._marks += 1
            else:
                self._marks = max(0, self._marks - 1)
        for element in _ELEMENT.finditer(content):
            self._count_element(element)

    def _count_element(self, element: re.Match[str]) -> None:
        name = (element["name"] or "!--").lower()
        closes = element["close"] == "/" or element[0] == "-->"
        if name in _OPEN_ELEMENTS or element[0].endswith("/>"):
            return
        if closes:
            self._elements[name] = max(0, self._elements.get(name, 0) - 1)
        elif name in self._elements or len(self._elements) < _MAX_ELEMENTS:
            self._elements[name] = self._elements.get(name, 0) + 1


def _without_markers(line: str) -> tuple[str, int, int, bool]:
    """Returns the line without markers, the depth of its quotes, its indent and whether it is a list item."""
    at, depth, indent, is_item = 0, 0, 0, False
    while marker := _MARKER.match(line, at):
        if ">" in marker[0]:
            depth += 1
        else:
            is_item = True
            indent = marker.end()
        at = marker.end()
    return line[at:], depth, indent, is_item
