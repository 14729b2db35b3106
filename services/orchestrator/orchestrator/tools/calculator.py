"""`calculate_math`: arithmetic that is exact for integers, with limits on its cost."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from simpleeval import InvalidExpression, SimpleEval

from ..errors import ToolError
from .expression import to_python
from .schema import quick

Number = int | float

MAX_CHARACTERS = 1_000
MAX_DEPTH = 200  # of the syntax tree: the evaluator recurses twice per level, and Python stops at 1,000
MAX_DIGITS = 1_000
_LIMIT = 10**MAX_DIGITS
_MAX_FACTORIAL = 449  # 450! has 1,001 digits


@quick  # takes at most 2 ms, given the limits above, and usually 50 µs
def calculate_math(expression: str) -> dict[str, Number]:
    """Evaluate a mathematical expression exactly, for example 123 * 456 or sqrt(2) * (1 + 0.05)^10.

    Operators: + - * / // % and ** or ^ for powers. Functions: sqrt, exp, ln, log (natural, or
    log(x, base)), log2, log10, sin, cos, tan, asin, acos, atan (in radians), degrees, radians, abs,
    round (half to even), floor, ceil, min, max, gcd, factorial. Constants: pi, e, tau.

    Args:
        expression: The expression, in numbers: no variables, no units, no text.
    """
    if len(expression) > MAX_CHARACTERS:
        raise ToolError(f"the expression is longer than {MAX_CHARACTERS:,} characters: split it")
    try:
        tree = ast.parse(to_python(expression, _FUNCTIONS, _CONSTANTS), mode="eval").body
        # A short text cannot be deep. Most are short, and walking the tree costs as much as evaluating it.
        if len(expression) >= MAX_DEPTH and _depth(tree) > MAX_DEPTH:
            raise RecursionError
        return {"result": _EVALUATOR.eval(expression, previously_parsed=tree)}
    except (MemoryError, RecursionError) as error:
        raise ToolError("the expression is nested too deeply, or has too many terms: split it") from error
    except (SyntaxError, InvalidExpression) as error:
        raise ToolError(
            "this is not an arithmetic expression: look at its operators and parentheses"
        ) from error
    except ZeroDivisionError as error:
        raise ToolError("a division by zero has no result") from error
    except OverflowError as error:
        raise ToolError("a number is too large for floating point (about 1.8e308)") from error
    except (TypeError, ValueError) as error:
        raise ToolError(f"a function is not defined for its arguments: {error}") from error


def _depth(tree: ast.AST) -> int:
    level, depth = [tree], 0
    while level:
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        depth += 1
    return depth


def _bounded(value: int | float | complex) -> Number:
    if isinstance(value, complex):
        raise ToolError("the result is not a real number")
    if isinstance(value, float) and not math.isfinite(value):
        raise OverflowError
    if isinstance(value, int) and abs(value) >= _LIMIT:
        raise ToolError(f"an integer has more than {MAX_DIGITS:,} digits")
    return value


def _with_bounds(function: Callable[..., Any]) -> Callable[..., Number]:
    return lambda *numbers: _bounded(function(*numbers))


def _power(base: Number, exponent: Number) -> Any:
    if isinstance(base, int) and isinstance(exponent, int):
        least_bits = (base.bit_length() - 1) * exponent
        if least_bits > _LIMIT.bit_length():
            raise ToolError(f"the power has more than {MAX_DIGITS:,} digits")
    return base**exponent


def _factorial(number: Number) -> int:
    if number != int(number) or number < 0:
        raise ToolError("factorial is defined for 0, 1, 2, … only")
    if number > _MAX_FACTORIAL:
        raise ToolError(f"factorial of more than {_MAX_FACTORIAL} has more than {MAX_DIGITS:,} digits")
    return math.factorial(int(number))


def _log(number: Number, base: Number = math.e) -> float:
    # math.log(1000, 10) is 2.9999999999999996
    exact = {2: math.log2, 10: math.log10, math.e: math.log}.get(base)
    return exact(number) if exact else math.log(number, base)


def _round(number: Number, digits: Number = 0) -> Number:
    if digits not in range(-MAX_DIGITS, MAX_DIGITS):
        raise ToolError(f"round takes a whole number of digits between -{MAX_DIGITS} and {MAX_DIGITS}")
    return round(number, int(digits)) if digits else round(number)


def _min(first: Number, *others: Number) -> Number:
    return min((first, *others))


def _max(first: Number, *others: Number) -> Number:
    return max((first, *others))


_CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}
_UNBOUNDED_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": math.sqrt,
    "exp": math.exp,
    "ln": math.log,
    "log": _log,
    "log2": math.log2,
    "log10": math.log10,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "degrees": math.degrees,
    "radians": math.radians,
    "abs": abs,
    "round": _round,
    "floor": math.floor,
    "ceil": math.ceil,
    "min": _min,
    "max": _max,
    "gcd": math.gcd,
    "factorial": _factorial,
}
_UNBOUNDED_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS = {name: _with_bounds(function) for name, function in _UNBOUNDED_FUNCTIONS.items()}
_OPERATORS = {kind: _with_bounds(function) for kind, function in _UNBOUNDED_OPERATORS.items()}


def _make_evaluator() -> SimpleEval:
    evaluator = SimpleEval(operators=_OPERATORS, functions=_FUNCTIONS, names=_CONSTANTS)
    allowed = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Name)
    evaluator.nodes = {kind: evaluator.nodes[kind] for kind in allowed}
    evaluator.nodes[ast.Constant] = lambda node: _bounded(node.value)
    return evaluator


# Shared by all threads: evaluating a parsed tree keeps no relevant state, whereas creating a SimpleEval
# briefly changes the warning filters of the process.
_EVALUATOR = _make_evaluator()
