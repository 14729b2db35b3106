"""Translates arithmetic as people write it into Python's syntax and rejects everything else."""

from __future__ import annotations

import re
from collections.abc import Collection

from ..errors import ToolError

_UNICODE = str.maketrans(
    {
        "\N{MULTIPLICATION SIGN}": "*",
        "\N{MIDDLE DOT}": "*",
        "\N{DOT OPERATOR}": "*",
        "\N{DIVISION SIGN}": "/",
        "\N{DIVISION SLASH}": "/",
        "\N{MINUS SIGN}": "-",
        "\N{EN DASH}": "-",
        "\N{SQUARE ROOT}": "sqrt",
        "\N{GREEK SMALL LETTER PI}": "pi",
    }
)
_EXPONENT = r"(?:[eE][+-]?[0-9]+)?"
_PLAIN = rf"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+){_EXPONENT}"
_GROUPED = rf"[0-9]{{1,3}}(?:,[0-9]{{3}})+(?![0-9])(?:\.[0-9]*)?{_EXPONENT}"
_REST = r"(?P<name>[A-Za-z_][A-Za-z_0-9]*)|(?P<operator>\*\*|//|[-+*/%^(),])"
_INSIDE_CALL = re.compile(rf"\s*(?:(?P<number>{_PLAIN})|{_REST})")
# Most expressions are just numbers and operators, which look the same in Python. Not parsing them saves
# 6% of a tool loop.
_FLAT_NUMBER = r"(?:(?:0|[1-9][0-9]*+)(?:\.[0-9]*+)?|\.[0-9]++)"
_FLAT = re.compile(rf"[-+ ]*+{_FLAT_NUMBER}(?: *+(?:\*\*|//|[-+*/%])[-+ ]*+{_FLAT_NUMBER})*+ *+")
_OUTSIDE_CALL = re.compile(rf"\s*(?:(?P<number>{_GROUPED}|{_PLAIN})|{_REST})")


def to_python(expression: str, functions: Collection[str], constants: Collection[str]) -> str:
    """Returns the expression in Python's syntax.

    It may contain numbers, `constants`, calls to `functions`, operators and parentheses. `^` becomes `**`,
    since people mean a power and not a bitwise exclusive or. `1,234` is one number, except directly inside
    a call: `max(1,234)` has two arguments.

    Raises:
        ToolError: the text contains anything else. Python's parser checks the order of the parts.
    """
    if _FLAT.fullmatch(expression):
        return expression.strip()
    text = (expression if expression.isascii() else expression.translate(_UNICODE)).strip()
    parts: list[str] = []
    calls: list[bool] = []  # whether each open parenthesis belongs to a call
    position = 0
    while position < len(text):
        match = (_INSIDE_CALL if calls and calls[-1] else _OUTSIDE_CALL).match(text, position)
        if match is None:
            raise ToolError(f"{text[position:].lstrip()[0]!r} is not part of an arithmetic expression")
        position = match.end()
        kind = match.lastgroup
        part = match[kind or 0]
        if kind == "name":
            _check_name(part, text[position:].lstrip()[:1] == "(", functions, constants)
        if kind != "operator" or part == "(":
            _check_operator_between(parts, part, functions)
        if part == "(":
            calls.append(bool(parts) and parts[-1] in functions)
        elif part == ")" and calls:
            calls.pop()
        elif part == "," and not (calls and calls[-1]):
            raise ToolError("a comma outside a function is unclear: write 1234.5 for a number")
        parts.append(_python_number(part) if kind == "number" else "**" if part == "^" else part)
    if not parts:
        raise ToolError("the expression is empty")
    return " ".join(parts)


def _check_name(name: str, is_called: bool, functions: Collection[str], constants: Collection[str]) -> None:
    if name in functions and not is_called:
        raise ToolError(f"{name} is a function: write {name}(...)")
    if name not in functions and name not in constants:
        known = ", ".join([*functions, *constants])
        raise ToolError(f"{name[:40]!r} is unknown: use numbers, operators and {known}")


def _check_operator_between(parts: list[str], part: str, functions: Collection[str]) -> None:
    if parts and (parts[-1] == ")" or parts[-1][-1:].isalnum()) and parts[-1] not in functions:
        raise ToolError(f"an operator is missing between {parts[-1][:40]!r} and {part[:40]!r}, * for example")


def _python_number(digits: str) -> str:
    """Returns the number without separators and leading zeros, which are syntax errors in Python."""
    plain = digits.replace(",", "").lstrip("0")
    return plain if plain[:1].isdigit() else f"0{plain}"
