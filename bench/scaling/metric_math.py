"""CloudWatch's metric math, as far as the alarms that scale engines use it.

Source: "Using math expressions with CloudWatch metrics" in CloudWatch's user guide. An operation on values of
which one is missing has no value; only FILL gives it one.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable, Mapping

Value = float | None

_OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def evaluate(expression: str, values: Mapping[str, Value]) -> Value:
    """Returns the value of an expression in one period; None if there is none.

    Raises:
        ValueError: the expression has a part that is not supported here.
    """
    return _value(_parsed(expression), values)


@functools.cache
def _parsed(expression: str) -> ast.expr:
    return ast.parse(expression, mode="eval").body


def _value(node: ast.expr, values: Mapping[str, Value]) -> Value:
    match node:
        case ast.Constant(int() | float() as number):
            return float(number)
        case ast.Name(name):
            return values[name]
        case ast.BinOp(left, operation, right) | ast.Compare(left, [operation], [right]):
            return _combined(operation, _value(left, values), _value(right, values))
        case ast.Call(ast.Name(function), arguments):
            return _called(function, arguments, values)
    raise ValueError(f"metric math that is not simulated: {ast.unparse(node)}")


def _called(function: str, arguments: list[ast.expr], values: Mapping[str, Value]) -> Value:
    if function == "IF" and len(arguments) == 3:
        condition = _value(arguments[0], values)
        return None if condition is None else _value(arguments[1 if condition else 2], values)
    if function == "FILL" and len(arguments) == 2:
        value = _value(arguments[0], values)
        return _value(arguments[1], values) if value is None else value
    raise ValueError(f"metric math that is not simulated: {function} of {len(arguments)} values")


def _combined(operation: ast.AST, left: Value, right: Value) -> Value:
    if left is None or right is None:
        return None
    if isinstance(operation, ast.Div):
        return left / right if right else None
    if type(operation) not in _OPERATORS:
        raise ValueError(f"metric math that is not simulated: {type(operation).__name__}")
    return float(_OPERATORS[type(operation)](left, right))
