"""Finds arithmetic expressions in text."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+")
_OPERATOR = re.compile(r"\*\*|//|[-+*/%^]")
_FUNCTION = re.compile(
    r"(?:sqrt|cbrt|sin|cos|tan|asin|acos|atan|sinh|cosh|tanh|log10|log2|log|ln|exp|abs|round|floor|ceil|"
    r"factorial|gcd|lcm|min|max|pow|sum|degrees|radians)(?=\s*\()"
)
_CONSTANT = re.compile(r"(?:pi|tau|e)\b")
_SPACE = re.compile(r"[ \t]*")
_START = re.compile(r"(?<![\w.])(?=[\d(.+-]|[a-z]+[0-9]*\s*\(|(?:pi|tau|e)\b)")
_DATE = re.compile(
    r"(?<![\w.+*/(-])(?:\d{4}-\d\d?-\d\d?|\d\d?-\d\d?-\d{4}|\d{3}-\d{3,4}-\d{4})(?![\w+*/)-]|\.\d)"
)
"""A date or a telephone number, which looks like a subtraction."""

_OPERAND = r"(?:\d[\d.,]*\d|\d|\))"
_WORDS = [
    (re.compile(rf"({_OPERAND})\s+(?:multiplied\s+by|times)\s+(?=[\d(.-])"), r"\1 * "),
    (re.compile(rf"({_OPERAND})\s+(?:divided\s+by|over)\s+(?=[\d(.-])"), r"\1 / "),
    (re.compile(rf"({_OPERAND})\s+plus\s+(?=[\d(.-])"), r"\1 + "),
    (re.compile(rf"({_OPERAND})\s+minus\s+(?=[\d(.-])"), r"\1 - "),
    (re.compile(rf"({_OPERAND})\s+mod(?:ulo)?\s+(?=[\d(.-])"), r"\1 % "),
    (re.compile(rf"({_OPERAND})\s+(?:raised\s+)?to\s+the\s+power\s+of\s+(?=[\d(.-])"), r"\1 ** "),
    (re.compile(rf"({_OPERAND})\s+squared\b"), r"\1 ** 2"),
    (re.compile(rf"({_OPERAND})\s+cubed\b"), r"\1 ** 3"),
    (re.compile(r"(\d[\d.]*)\s*(?:%|percent)\s+of\s+(?=[\d(])"), r"\1 / 100 * "),
    (re.compile(r"\bsquare\s+root\s+of\s+(\d[\d.]*\d|\d)"), r"sqrt(\1)"),
    (re.compile("[\N{MULTIPLICATION SIGN}\N{MIDDLE DOT}]"), "*"),
    (re.compile(r"÷"), "/"),
    (re.compile("[\N{MINUS SIGN}\N{EN DASH}]"), "-"),
]


def expressions(text: str) -> list[str]:
    """Finds the arithmetic expressions in a text, as written; words such as `times` become operators.

    A single number, a date or a telephone number does not count as an expression.
    """
    text = _DATE.sub(" ", text)
    for pattern, replacement in _WORDS:
        text = pattern.sub(replacement, text)
    found: list[str] = []
    position = 0
    while start := _START.search(text, position):
        end, operations = _sum(text, start.start())
        if end > start.start() and operations:
            found.append(re.sub(r"(?<=\d),(?=\d{3})", "", text[start.start() : end]).strip())
        position = max(end, start.start() + 1)
    return found


def _sum(text: str, position: int) -> tuple[int, int]:
    """Returns where the longest expression at `position` ends (`position` if none) and its operations."""
    end, operations = _operand(text, position)
    if end == position:
        return position, 0
    while operator := _OPERATOR.match(text, _skip(text, end)):
        after = _skip(text, operator.end())
        next_end, more = _operand(text, after)
        if next_end == after:
            break
        end, operations = next_end, operations + more + 1
    return end, operations


def _operand(text: str, position: int) -> tuple[int, int]:
    start = position
    while position < len(text) and text[position] in "+-":
        position = _skip(text, position + 1)
    if literal := _NUMBER.match(text, position) or _CONSTANT.match(text, position):
        return literal.end(), 0
    function = _FUNCTION.match(text, position)
    opening = _skip(text, function.end()) if function else position
    if not text.startswith("(", opening):
        return start, 0
    end, operations = _inside(text, opening + 1, commas=function is not None)
    return (end, operations + (function is not None)) if end else (start, 0)


def _inside(text: str, position: int, *, commas: bool) -> tuple[int, int]:
    """Returns the position after the closing bracket (0 if it never closes) and the operations inside."""
    operations = 0
    while True:
        begin = _skip(text, position)
        end, more = _sum(text, begin)
        if end == begin:
            return 0, 0
        operations += more
        position = _skip(text, end)
        if text.startswith(")", position):
            return position + 1, operations
        if not (commas and text.startswith(",", position)):
            return 0, 0
        position += 1


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
